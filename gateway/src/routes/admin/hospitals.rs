//! `POST /v1/admin/hospitals`

use axum::extract::State;
use axum::http::StatusCode;
use booking::rules::Limits;
use jiff::tz::TimeZone;
use ledger::catalogue::HospitalCreated;
use serde::Deserialize;

use super::CreatedView;
use crate::app::App;
use crate::auth::Admin;
use crate::extract::Json;
use crate::fields::Fields;
use crate::problem::{Code, Problem, ProblemBody};

/// Largest limit that makes sense to set.
const LIMIT_MAX: u16 = 1000;

/// A hospital to be made.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HospitalRequest {
    /// 1 to 100 characters, unique.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// IANA name, for instance `Asia/Shanghai`.
    time_zone: String,
    /// Without them: 2, 1 and 3.
    limits: Option<LimitsRequest>,
}

/// Most live bookings of one patient; null is no limit.
#[expect(clippy::struct_field_names, reason = "the names on the wire")]
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsRequest {
    /// On one date.
    per_day_max: Option<u16>,
    /// In one department on one date.
    per_department_day_max: Option<u16>,
    /// Within six days of a date.
    per_week_max: Option<u16>,
}

impl LimitsRequest {
    const DEFAULT: Self =
        Self { per_day_max: Some(2), per_department_day_max: Some(1), per_week_max: Some(3) };
}

/// Make a hospital
#[utoipa::path(
    post,
    path = "/v1/admin/hospitals",
    tag = "admin",
    security(("token" = [])),
    request_body = HospitalRequest,
    responses(
        (status = 201, body = CreatedView),
        (status = 400, body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`conflict`: the name is in use"),
    )
)]
pub async fn create_hospital(
    State(app): State<App>,
    Admin(actor): Admin,
    Json(request): Json<HospitalRequest>,
) -> Result<(StatusCode, Json<CreatedView>), Problem> {
    let limits = request.limits.unwrap_or(LimitsRequest::DEFAULT);
    let mut fields = Fields::default();
    fields.check_name(&request.name, 100, "/name");
    let zone = TimeZone::get(&request.time_zone).ok();
    // Only a zone that the database knows under the same name is of use to both.
    let is_iana = zone.as_ref().and_then(TimeZone::iana_name).is_some();
    fields.check(is_iana, "/time_zone", "an IANA time zone, for instance Asia/Shanghai");
    for (max, name) in [
        (limits.per_day_max, "per_day_max"),
        (limits.per_department_day_max, "per_department_day_max"),
        (limits.per_week_max, "per_week_max"),
    ] {
        let is_good = max.is_none_or(|max| (1..=LIMIT_MAX).contains(&max));
        fields.check(is_good, format!("/limits/{name}"), format!("1 to {LIMIT_MAX}, or null"));
    }
    fields.finish()?;
    let limits = Limits {
        per_day_max: limits.per_day_max,
        per_department_day_max: limits.per_department_day_max,
        per_week_max: limits.per_week_max,
    };
    match app.ledger.create_hospital(actor, request.name, request.time_zone, limits).await? {
        HospitalCreated::Done(id) => {
            Ok((StatusCode::CREATED, Json(CreatedView { id: id.to_string() })))
        }
        HospitalCreated::NameTaken => {
            Err(Problem::new(Code::Conflict).with_detail("another hospital has this name"))
        }
    }
}
