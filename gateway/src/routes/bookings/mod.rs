//! `/v1/bookings`: book, follow, list, cancel.

use utoipa_axum::router::OpenApiRouter;

use crate::app::App;

/// Returns the routes of bookings.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
}
