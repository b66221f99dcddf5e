//! The paths of the API. One endpoint per file; a handler extracts, calls one use case, maps its outcome.

pub mod accounts;
pub mod admin;
pub mod bookings;
pub mod catalogue;
pub mod patients;
pub mod tokens;

use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::problem::{Code, Problem};

/// Returns all routes with their documents.
pub fn router() -> OpenApiRouter<App> {
    // Each area brings its own router: add a line per area.
    OpenApiRouter::default()
        .merge(bookings::router())
        .merge(accounts::router())
        .merge(tokens::router())
        .merge(patients::router())
        .merge(catalogue::router())
        .merge(admin::router())
        .fallback(async || Problem::new(Code::NotFound))
}
