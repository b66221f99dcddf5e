//! `POST /v1/patients`

use axum::extract::State;
use axum::http::StatusCode;
use ledger::patient::{NewPatient, PatientAdded};
use serde::Deserialize;

use super::PatientView;
use crate::app::App;
use crate::auth::Identity;
use crate::auth::id_number::{IdNumber, mask};
use crate::auth::seal::Column;
use crate::extract::Json;
use crate::fields::Fields;
use crate::problem::{Code, Problem, ProblemBody};

/// A patient to act for.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatientRequest {
    /// 1 to 64 characters.
    #[schema(min_length = 1, max_length = 64)]
    name: String,
    /// An 18-digit resident id number, or a passport number of 6 to 12 letters and digits.
    id_number: String,
}

/// Act for a patient, at most five in all
///
/// The same person again gets the new name.
#[utoipa::path(
    post,
    path = "/v1/patients",
    tag = "patients",
    security(("token" = [])),
    request_body = PatientRequest,
    responses(
        (status = 201, body = PatientView, description = "The account acts for them"),
        (status = 400, body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`patient_limit_reached`"),
    )
)]
pub async fn add(
    State(app): State<App>,
    identity: Identity,
    Json(request): Json<PatientRequest>,
) -> Result<(StatusCode, Json<PatientView>), Problem> {
    let mut fields = Fields::default();
    fields.check_name(&request.name, 64, "/name");
    let id_number = IdNumber::parse(&request.id_number);
    fields.check(
        id_number.is_some(),
        "/id_number",
        "a resident id number of 18 digits, or a passport number of 6 to 12 letters and digits",
    );
    fields.finish()?;
    let Some(id_number) = id_number else { return Err(Code::InvalidField.into()) };
    let new = NewPatient {
        id_number_hash: app.sealer.hash(Column::IdNumber, id_number.as_str()),
        id_number_sealed: app.sealer.seal(Column::IdNumber, id_number.as_str())?,
        name_sealed: app.sealer.seal(Column::PatientName, &request.name)?,
    };
    match app.ledger.add_patient(identity.account, new).await? {
        PatientAdded::Done(id) => {
            app.patients.note_added(identity.account, id);
            let id_number_masked = mask(id_number.as_str());
            let view = PatientView { id, name: request.name, id_number_masked };
            Ok((StatusCode::CREATED, Json(view)))
        }
        PatientAdded::LimitReached => Err(Code::PatientLimitReached.into()),
        PatientAdded::NoAccount => Err(Code::Unauthorized.into()),
    }
}
