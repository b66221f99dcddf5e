//! `/v1/accounts`: making an account.

pub mod register;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

/// Returns the routes of accounts.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(register::register))
}
