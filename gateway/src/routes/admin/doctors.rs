//! `POST /v1/admin/doctors`

use axum::extract::State;
use axum::http::StatusCode;
use booking::DepartmentId;
use ledger::catalogue::{DoctorCreated, NewDoctor, Rank};
use serde::Deserialize;

use super::CreatedView;
use crate::app::App;
use crate::auth::Admin;
use crate::extract::Json;
use crate::fields::Fields;
use crate::problem::{Code, Problem, ProblemBody};

/// Highest fee, in fen: 10,000 CNY.
const FEE_FEN_MAX: u32 = 1_000_000;

/// A doctor to be made.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DoctorRequest {
    /// Their department.
    #[schema(value_type = String)]
    department_id: DepartmentId,
    /// 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// `resident`, `attending` (if not said), `associate_chief` or `chief`.
    rank: Option<String>,
    /// Registration fee in fen (1/100 CNY), 0 if not said.
    #[schema(maximum = 1_000_000)]
    fee_fen: Option<u32>,
}

/// Make a doctor
#[utoipa::path(
    post,
    path = "/v1/admin/doctors",
    tag = "admin",
    security(("token" = [])),
    request_body = DoctorRequest,
    responses(
        (status = 201, body = CreatedView),
        (status = 400, body = ProblemBody, content_type = "application/problem+json", description = "`invalid_field`, also for a department that does not exist"),
        (status = 403, body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub async fn create_doctor(
    State(app): State<App>,
    Admin(actor): Admin,
    Json(request): Json<DoctorRequest>,
) -> Result<(StatusCode, Json<CreatedView>), Problem> {
    let rank = request.rank.as_deref().map_or(Some(Rank::Attending), Rank::from_word);
    let fee_fen = request.fee_fen.unwrap_or(0);
    let mut fields = Fields::default();
    fields.check_name(&request.name, 100, "/name");
    fields.check(rank.is_some(), "/rank", "resident, attending, associate_chief or chief");
    fields.check(fee_fen <= FEE_FEN_MAX, "/fee_fen", format!("at most {FEE_FEN_MAX}"));
    fields.finish()?;
    let new = NewDoctor {
        department: request.department_id,
        name: request.name,
        rank: rank.unwrap_or(Rank::Attending),
        fee_fen,
    };
    match app.ledger.create_doctor(actor, new).await? {
        DoctorCreated::Done(id) => {
            Ok((StatusCode::CREATED, Json(CreatedView { id: id.to_string() })))
        }
        DoctorCreated::NoDepartment => {
            Err(Problem::new(Code::InvalidField).with_field("/department_id", "no such department"))
        }
    }
}
