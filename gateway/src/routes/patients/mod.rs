//! `/v1/patients`: whom an account acts for.

pub mod add;
pub mod list;
pub mod remove;

use booking::PatientId;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

/// Returns the routes of patients.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(add::add, list::list)).routes(routes!(remove::remove))
}

/// A patient of the account.
#[derive(Serialize, utoipa::ToSchema)]
pub struct PatientView {
    /// Their id, the same for whichever account acts for them.
    #[schema(value_type = String)]
    id: PatientId,
    /// The name this account gave.
    name: String,
    /// Their id number, but for its ends hidden.
    id_number_masked: String,
}
