//! The paths of the API. One endpoint per file; a handler extracts, calls one use case, maps its outcome.

pub mod bookings;

use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::problem::{Code, Problem};

/// Returns all routes with their documents.
pub fn router() -> OpenApiRouter<App> {
    // Each area brings its own router: add a line per area.
    OpenApiRouter::default()
        .merge(bookings::router())
        .fallback(async || Problem::new(Code::NotFound))
}
