//! `DELETE /v1/patients/{id}`

use axum::extract::State;
use axum::http::StatusCode;
use booking::PatientId;

use crate::app::App;
use crate::auth::Identity;
use crate::extract::PathId;
use crate::problem::{Code, Problem, ProblemBody};

/// Act for a patient no longer
///
/// Their bookings stay.
#[utoipa::path(
    delete,
    path = "/v1/patients/{id}",
    tag = "patients",
    security(("token" = [])),
    params(("id" = String, Path, description = "The patient")),
    responses(
        (status = 204, description = "The account does not act for them any more"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub async fn remove(
    State(app): State<App>,
    identity: Identity,
    PathId(patient): PathId<PatientId>,
) -> Result<StatusCode, Problem> {
    if !app.ledger.remove_patient(identity.account, patient).await? {
        return Err(Code::NotFound.into());
    }
    app.patients.note_removed(identity.account, patient);
    Ok(StatusCode::NO_CONTENT)
}
