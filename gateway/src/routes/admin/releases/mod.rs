//! `/v1/admin/releases`: batches of slots that go on offer together.

pub mod change;
pub mod create;
pub mod get;
pub mod list;
pub mod view;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

/// Returns the routes of releases.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(create::create_release, list::list_releases))
        .routes(routes!(get::get_release))
        .routes(routes!(change::preheat_release))
        .routes(routes!(change::pause_release))
        .routes(routes!(change::resume_release))
        .routes(routes!(change::close_release))
}
