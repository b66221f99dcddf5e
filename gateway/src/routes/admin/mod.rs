//! `/v1/admin`: making what is on offer, running releases, seeing to what was parked.
//!
//! Every handler takes [`crate::auth::Admin`] before it takes a body.

pub mod departments;
pub mod doctors;
pub mod hospitals;
pub mod parked;
pub mod releases;
pub mod sessions;

use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

/// Returns the routes of administration.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(hospitals::create_hospital))
        .routes(routes!(departments::create_department))
        .routes(routes!(doctors::create_doctor))
        .routes(routes!(sessions::create_session))
        .merge(releases::router())
        .merge(parked::router())
}

/// Something that was made.
#[derive(Serialize, utoipa::ToSchema)]
pub struct CreatedView {
    /// Its id.
    id: String,
}
