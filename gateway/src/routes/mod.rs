//! The paths of the API. One endpoint per file; a handler extracts, calls one use case, maps its outcome.

pub mod accounts;
pub mod admin;
pub mod bookings;
pub mod catalogue;
mod layer;
pub mod patients;
pub mod tokens;

use std::sync::Arc;

use axum::Router;
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::openapi;
use crate::problem::{Code, Problem};

pub use layer::{Place, around};

/// Returns all routes with their documents.
pub fn router() -> OpenApiRouter<App> {
    // Each area brings its own router: add a line per area.
    OpenApiRouter::with_openapi(openapi::base())
        .merge(bookings::router())
        .merge(accounts::router())
        .merge(tokens::router())
        .merge(patients::router())
        .merge(catalogue::router())
        .merge(admin::router())
}

/// Returns the whole HTTP face: routes, fallbacks, and what is done for every request.
pub fn service(app: &App) -> Router {
    let (router, document) = router().split_for_parts();
    let router = router
        .fallback(async || Problem::new(Code::NotFound))
        .method_not_allowed_fallback(async || Problem::new(Code::MethodNotAllowed));
    let paths = document.paths.paths.into_keys();
    around(router, Arc::clone(&app.limits), paths).with_state(app.clone())
}
