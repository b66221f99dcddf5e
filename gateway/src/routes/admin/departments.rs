//! `POST /v1/admin/departments`

use axum::extract::State;
use axum::http::StatusCode;
use booking::HospitalId;
use ledger::catalogue::DepartmentCreated;
use serde::Deserialize;

use super::CreatedView;
use crate::app::App;
use crate::auth::Admin;
use crate::extract::Json;
use crate::fields::Fields;
use crate::problem::{Code, Problem, ProblemBody};

/// A department to be made.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DepartmentRequest {
    /// Its hospital.
    #[schema(value_type = String)]
    hospital_id: HospitalId,
    /// 1 to 100 characters, unique in the hospital.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
}

/// Make a department
#[utoipa::path(
    post,
    path = "/v1/admin/departments",
    tag = "admin",
    security(("token" = [])),
    request_body = DepartmentRequest,
    responses(
        (status = 201, body = CreatedView),
        (status = 400, body = ProblemBody, content_type = "application/problem+json", description = "`invalid_field`, also for a hospital that does not exist"),
        (status = 403, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`conflict`: the name is in use"),
    )
)]
pub async fn create_department(
    State(app): State<App>,
    Admin(actor): Admin,
    Json(request): Json<DepartmentRequest>,
) -> Result<(StatusCode, Json<CreatedView>), Problem> {
    let mut fields = Fields::default();
    fields.check_name(&request.name, 100, "/name");
    fields.finish()?;
    match app.ledger.create_department(actor, request.hospital_id, request.name).await? {
        DepartmentCreated::Done(id) => {
            Ok((StatusCode::CREATED, Json(CreatedView { id: id.to_string() })))
        }
        DepartmentCreated::NameTaken => Err(Problem::new(Code::Conflict)
            .with_detail("another department of this hospital has this name")),
        DepartmentCreated::NoHospital => {
            Err(Problem::new(Code::InvalidField).with_field("/hospital_id", "no such hospital"))
        }
    }
}
