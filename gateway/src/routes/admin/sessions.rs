//! `POST /v1/admin/sessions`

use axum::extract::State;
use axum::http::StatusCode;
use booking::id::SLOTS_PER_SESSION_MAX;
use booking::{DoctorId, SessionId, SlotId, UnixMs};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use ledger::catalogue::{NewSession, NewSlot, Period, SessionCreated};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::auth::Admin;
use crate::extract::{Json, WideJson};
use crate::fields::{Fields, unix_ms};
use crate::problem::{Code, Problem, ProblemBody};
use crate::routes::catalogue::view::zone;

/// Most places of a slot.
const CAPACITY_MAX: u32 = 1_000_000;

/// A session to be made.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionRequest {
    /// Who sees the patients.
    #[schema(value_type = String)]
    doctor_id: DoctorId,
    /// In the hospital's time zone.
    #[schema(value_type = String, format = Date)]
    on_date: Date,
    /// `morning`, `afternoon` or `evening`.
    period: String,
    /// 1 to 256, in order of time, none overlapping another, all on the date.
    slots: Vec<SlotRequest>,
}

/// A slot to be made.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SlotRequest {
    /// First instant, with an offset.
    #[schema(value_type = String, format = DateTime)]
    starts_at: Timestamp,
    /// First instant after, with an offset.
    #[schema(value_type = String, format = DateTime)]
    ends_at: Timestamp,
    /// Places there are.
    #[schema(minimum = 1, maximum = 1_000_000)]
    capacity: u32,
}

/// A session that was made.
#[derive(Serialize, utoipa::ToSchema)]
pub struct SessionCreatedView {
    #[schema(value_type = String)]
    id: SessionId,
    /// In the order they were sent.
    slots: Vec<SlotCreatedView>,
}

/// A slot that was made.
#[derive(Serialize, utoipa::ToSchema)]
pub struct SlotCreatedView {
    #[schema(value_type = String)]
    id: SlotId,
}

/// Make a session and its slots
#[utoipa::path(
    post,
    path = "/v1/admin/sessions",
    tag = "admin",
    security(("token" = [])),
    request_body = SessionRequest,
    responses(
        (status = 201, body = SessionCreatedView),
        (status = 400, body = ProblemBody, content_type = "application/problem+json", description = "`invalid_field`, also for a doctor that does not exist"),
        (status = 403, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`conflict`: the doctor has a session on this date and period; `session_overlap`: another one's slots lie in these; `slot_begun`: one of these has"),
    )
)]
pub async fn create_session(
    State(app): State<App>,
    Admin(actor): Admin,
    WideJson(request): WideJson<SessionRequest>,
) -> Result<(StatusCode, Json<SessionCreatedView>), Problem> {
    let no_doctor = || Problem::new(Code::InvalidField).with_field("/doctor_id", "no such doctor");
    let place = app.ledger.place_of_doctor(request.doctor_id).await?.ok_or_else(no_doctor)?;
    let new = check(&request, &zone(&place.time_zone))?;
    refuse_past(&new, app.clock.now())?;
    let slots_count = new.slots.len();
    match app.ledger.create_session(actor, app.partitions, new).await? {
        SessionCreated::Done(id) => {
            let ordinals = (0..=u8::MAX).take(slots_count);
            let slots = ordinals.map(|n| SlotCreatedView { id: SlotId::of(id, n) }).collect();
            Ok((StatusCode::CREATED, Json(SessionCreatedView { id, slots })))
        }
        SessionCreated::AlreadyThere => Err(Problem::new(Code::Conflict)
            .with_detail("the doctor has a session on this date and period")),
        SessionCreated::Overlaps => Err(Code::SessionOverlap.into()),
        SessionCreated::NoDoctor => Err(no_doctor()),
    }
}

/// What has begun can't be put on offer any more, so it is not made.
fn refuse_past(new: &NewSession, now: UnixMs) -> Result<(), Problem> {
    let has_begun = |slot: &NewSlot| slot.starts_at <= now;
    let Some(begun) = new.slots.iter().position(has_begun) else { return Ok(()) };
    let at = format!("/slots/{begun}/starts_at");
    Err(Problem::new(Code::SlotBegun).with_field(at, "in the future"))
}

fn check(request: &SessionRequest, zone: &TimeZone) -> Result<NewSession, Problem> {
    let mut fields = Fields::default();
    let period = Period::from_word(&request.period);
    fields.check(period.is_some(), "/period", "morning, afternoon or evening");
    let count = request.slots.len();
    let is_count_good = (1..=usize::from(SLOTS_PER_SESSION_MAX)).contains(&count);
    fields.check(is_count_good, "/slots", format!("1 to {SLOTS_PER_SESSION_MAX} slots"));
    // The day may be one of 23 or 25 hours.
    let midnight = |date: Date| date.to_zoned(zone.clone()).map(|midnight| midnight.timestamp());
    let day = midnight(request.on_date)
        .and_then(|from| Ok((from, midnight(request.on_date.tomorrow()?)?)));
    fields.check(day.is_ok(), "/on_date", "a date");
    let (from, to) = day.unwrap_or_default();
    let mut earliest = from;
    for (n, slot) in request.slots.iter().enumerate() {
        let at = |field| format!("/slots/{n}/{field}");
        let is_behind = slot.starts_at >= earliest;
        fields.check(is_behind, at("starts_at"), "on the date, not before the last slot's end");
        let is_inside = slot.starts_at < slot.ends_at && slot.ends_at <= to;
        fields.check(is_inside, at("ends_at"), "on the date, after starts_at");
        let is_capacity_good = (1..=CAPACITY_MAX).contains(&slot.capacity);
        fields.check(is_capacity_good, at("capacity"), format!("1 to {CAPACITY_MAX}"));
        earliest = slot.ends_at;
    }
    fields.finish()?;
    let slot = |slot: &SlotRequest| NewSlot {
        starts_at: unix_ms(slot.starts_at),
        ends_at: unix_ms(slot.ends_at),
        capacity: slot.capacity,
    };
    Ok(NewSession {
        doctor: request.doctor_id,
        on_date: request.on_date,
        period: period.unwrap_or(Period::Morning),
        slots: request.slots.iter().map(slot).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(slots: &[(&str, &str, u32)]) -> Result<NewSession, String> {
        let time = |text: &str| format!("2026-03-02T{text}:00+08:00").parse().expect("a time");
        let slots = slots
            .iter()
            .map(|(starts_at, ends_at, capacity)| SlotRequest {
                starts_at: time(starts_at),
                ends_at: time(ends_at),
                capacity: *capacity,
            })
            .collect();
        let request = SessionRequest {
            doctor_id: DoctorId::from(1),
            on_date: "2026-03-02".parse().expect("a date"),
            period: "morning".to_owned(),
            slots,
        };
        let zone = TimeZone::get("Asia/Shanghai").expect("a zone");
        check(&request, &zone).map_err(|problem| format!("{problem:?}"))
    }

    #[test]
    fn slots_follow_each_other_within_the_date() {
        let good = judge(&[("00:00", "08:30", 1), ("08:30", "09:00", 1_000_000)]);
        assert_eq!(good.expect("good").slots.len(), 2);
    }

    #[test]
    fn every_fault_of_a_slot_is_pointed_at() {
        let cases = [
            (&[("08:00", "09:00", 1), ("08:59", "10:00", 1)][..], "/slots/1/starts_at"),
            (&[("08:00", "08:00", 1)], "/slots/0/ends_at"),
            (&[("08:00", "09:00", 0)], "/slots/0/capacity"),
            (&[("08:00", "09:00", 1_000_001)], "/slots/0/capacity"),
            (&[], "/slots"),
        ];
        for (slots, pointer) in cases {
            let fault = judge(slots).expect_err(pointer);
            assert!(fault.contains(pointer), "{pointer}: {fault}");
        }
    }

    #[test]
    fn the_date_is_the_hospitals() {
        let slot = SlotRequest {
            starts_at: "2026-03-01T16:00:00Z".parse().expect("a time"),
            ends_at: "2026-03-01T17:00:00Z".parse().expect("a time"),
            capacity: 1,
        };
        let request = |slot| SessionRequest {
            doctor_id: DoctorId::from(1),
            on_date: "2026-03-02".parse().expect("a date"),
            period: "morning".to_owned(),
            slots: vec![slot],
        };
        let shanghai = TimeZone::get("Asia/Shanghai").expect("a zone");
        let again = SlotRequest { ..slot };
        assert!(check(&request(slot), &shanghai).is_ok());
        assert!(check(&request(again), &TimeZone::UTC).is_err());
    }
}
