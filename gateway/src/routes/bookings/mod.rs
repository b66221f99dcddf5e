//! `/v1/bookings`: book, follow, list, cancel.

mod book;
mod cancel;
mod events;
mod list;
mod status;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

/// Returns the routes of bookings.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(book::book, list::list))
        .routes(routes!(status::status))
        .routes(routes!(events::events))
        .routes(routes!(cancel::cancel))
}
