//! `POST /v1/admin/releases`

use std::collections::HashSet;

use axum::extract::State;
use axum::http::StatusCode;
use booking::{HospitalId, SlotId, UnixMs};
use jiff::Timestamp;
use ledger::release::{NewRelease, ReleaseCreated};
use serde::Deserialize;

use super::view::{self, ReleaseView};
use crate::app::App;
use crate::auth::Admin;
use crate::extract::{Json, WideJson};
use crate::fields::{Fields, unix_ms};
use crate::problem::{Code, Problem, ProblemBody};

/// Most slots of one release.
const SLOTS_MAX: usize = 10_000;
/// Slots pointed at in one answer, at most.
const POINTED_AT_MAX: usize = 100;

/// A release to be made.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// The hospital all its slots belong to.
    #[schema(value_type = String)]
    hospital_id: HospitalId,
    /// 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// First instant of booking, with an offset.
    #[schema(value_type = String, format = DateTime)]
    opens_at: Timestamp,
    /// First instant after, with an offset; in the future.
    #[schema(value_type = String, format = DateTime)]
    closes_at: Timestamp,
    /// 1 to 10000 slots that have not begun, none in another release that is not closed.
    #[schema(value_type = Vec<String>)]
    slot_ids: Vec<SlotId>,
}

/// Make a release
#[utoipa::path(
    post,
    path = "/v1/admin/releases",
    tag = "admin",
    security(("token" = [])),
    request_body = ReleaseRequest,
    responses(
        (status = 201, body = ReleaseView),
        (status = 400, body = ProblemBody, content_type = "application/problem+json", description = "`invalid_field`, also for a slot that is not of the hospital"),
        (status = 403, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`conflict`: a slot is in another release; `slot_begun`: a slot has begun"),
    )
)]
pub async fn create_release(
    State(app): State<App>,
    Admin(actor): Admin,
    WideJson(request): WideJson<ReleaseRequest>,
) -> Result<(StatusCode, Json<ReleaseView>), Problem> {
    let slots = request.slot_ids.clone();
    let new = check(request, app.clock.now())?;
    let pointer = |slot: SlotId| {
        let n = slots.iter().position(|one| *one == slot).unwrap_or_default();
        format!("/slot_ids/{n}")
    };
    let begun = app.ledger.slots_begun(&slots, app.clock.now()).await?;
    if !begun.is_empty() {
        let problem = Problem::new(Code::SlotBegun);
        let point = |problem: Problem, slot| problem.with_field(pointer(slot), "has begun");
        return Err(begun.into_iter().take(POINTED_AT_MAX).fold(problem, point));
    }
    match app.ledger.create_release(actor, new).await? {
        ReleaseCreated::Done(id) => {
            let (_, view) = view::find(&app, id).await?.ok_or(Code::NotFound)?;
            Ok((StatusCode::CREATED, Json(view)))
        }
        ReleaseCreated::NoHospital => {
            Err(Problem::new(Code::InvalidField).with_field("/hospital_id", "no such hospital"))
        }
        ReleaseCreated::NoSlot(slot) => Err(Problem::new(Code::InvalidField)
            .with_field(pointer(slot), "no such slot in this hospital")),
        ReleaseCreated::SlotTaken(slot) => Err(Problem::new(Code::Conflict)
            .with_field(pointer(slot), "in another release that is not closed")),
    }
}

fn check(request: ReleaseRequest, now: UnixMs) -> Result<NewRelease, Problem> {
    let mut fields = Fields::default();
    fields.check_name(&request.name, 100, "/name");
    let closes_at = unix_ms(request.closes_at);
    if request.opens_at < request.closes_at {
        fields.check(now < closes_at, "/closes_at", "in the future");
    } else {
        fields.check(false, "/closes_at", "after opens_at");
    }
    let is_count_good = (1..=SLOTS_MAX).contains(&request.slot_ids.len());
    fields.check(is_count_good, "/slot_ids", format!("1 to {SLOTS_MAX} slots"));
    let mut seen = HashSet::new();
    let repeated = request.slot_ids.iter().position(|slot| !seen.insert(*slot));
    let at = format!("/slot_ids/{}", repeated.unwrap_or_default());
    fields.check(repeated.is_none(), at, "named before");
    fields.finish()?;
    Ok(NewRelease {
        hospital: request.hospital_id,
        name: request.name,
        opens_at: unix_ms(request.opens_at),
        closes_at,
        slots: request.slot_ids,
    })
}
