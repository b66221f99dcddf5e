//! How the catalogue is shown.

use booking::rules::Limits;
use booking::{DepartmentId, DoctorId, HospitalId, ReleaseId, SessionId, SlotId, UnixMs};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use ledger::catalogue::{Department, Doctor, Hospital, Session, Slot};
use serde::Serialize;

use crate::time_text;

/// A hospital.
#[derive(Serialize, utoipa::ToSchema)]
pub struct HospitalView {
    #[schema(value_type = String)]
    id: HospitalId,
    name: String,
    /// IANA name.
    time_zone: String,
    limits: LimitsView,
}

/// Most live bookings of one patient; null is no limit.
#[expect(clippy::struct_field_names, reason = "the names on the wire")]
#[derive(Serialize, utoipa::ToSchema)]
pub struct LimitsView {
    /// On one date.
    per_day_max: Option<u16>,
    /// In one department on one date.
    per_department_day_max: Option<u16>,
    /// Within six days of a date.
    per_week_max: Option<u16>,
}

/// A department.
#[derive(Serialize, utoipa::ToSchema)]
pub struct DepartmentView {
    #[schema(value_type = String)]
    id: DepartmentId,
    #[schema(value_type = String)]
    hospital_id: HospitalId,
    name: String,
}

/// A doctor.
#[derive(Serialize, utoipa::ToSchema)]
pub struct DoctorView {
    #[schema(value_type = String)]
    id: DoctorId,
    #[schema(value_type = String)]
    department_id: DepartmentId,
    name: String,
    /// `resident`, `attending`, `associate_chief` or `chief`.
    rank: &'static str,
    /// Registration fee in fen (1/100 CNY).
    fee_fen: u32,
}

/// A clinic session: one doctor, one date, one period.
#[derive(Serialize, utoipa::ToSchema)]
pub struct SessionView {
    #[schema(value_type = String)]
    id: SessionId,
    #[schema(value_type = String)]
    hospital_id: HospitalId,
    doctor: DoctorView,
    /// In the hospital's time zone.
    #[schema(value_type = String, format = Date)]
    on_date: Date,
    /// `morning`, `afternoon` or `evening`.
    period: &'static str,
    /// Called off: nothing can be booked.
    withdrawn: bool,
    slots: Vec<SlotView>,
}

/// A time band of a session.
#[derive(Serialize, utoipa::ToSchema)]
pub struct SlotView {
    #[schema(value_type = String)]
    id: SlotId,
    #[schema(format = DateTime)]
    starts_at: String,
    #[schema(format = DateTime)]
    ends_at: String,
    /// Places there are.
    capacity: u32,
    /// Places not sold, about a second ago. Not a promise.
    left: u32,
    /// The release it goes on offer with.
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<SlotReleaseView>,
}

/// What a slot shows of its release.
#[derive(Serialize, utoipa::ToSchema)]
pub struct SlotReleaseView {
    #[schema(value_type = String)]
    id: ReleaseId,
    #[schema(format = DateTime)]
    opens_at: String,
    #[schema(format = DateTime)]
    closes_at: String,
    /// `planned`, `preheated`, `open`, `paused` or `closed`.
    status: &'static str,
}

impl From<Hospital> for HospitalView {
    fn from(hospital: Hospital) -> Self {
        let Hospital { id, name, time_zone, limits } = hospital;
        Self { id, name, time_zone, limits: limits.into() }
    }
}

impl From<Limits> for LimitsView {
    fn from(limits: Limits) -> Self {
        let Limits { per_day_max, per_department_day_max, per_week_max } = limits;
        Self { per_day_max, per_department_day_max, per_week_max }
    }
}

impl From<Department> for DepartmentView {
    fn from(department: Department) -> Self {
        let Department { id, hospital, name } = department;
        Self { id, hospital_id: hospital, name }
    }
}

impl From<Doctor> for DoctorView {
    fn from(doctor: Doctor) -> Self {
        let Doctor { id, department, name, rank, fee_fen } = doctor;
        Self { id, department_id: department, name, rank: rank.as_str(), fee_fen }
    }
}

impl SessionView {
    /// Shows a session as it is at `now`.
    pub fn of(session: Session, now: UnixMs) -> Self {
        let zone = zone(&session.time_zone);
        Self {
            id: session.id,
            hospital_id: session.hospital,
            doctor: session.doctor.into(),
            on_date: session.on_date,
            period: session.period.as_str(),
            withdrawn: session.is_withdrawn,
            slots: session.slots.iter().map(|slot| SlotView::of(slot, &zone, now)).collect(),
        }
    }
}

impl SlotView {
    fn of(slot: &Slot, zone: &TimeZone, now: UnixMs) -> Self {
        Self {
            id: slot.id,
            starts_at: time_text(slot.starts_at, zone),
            ends_at: time_text(slot.ends_at, zone),
            capacity: slot.capacity,
            left: slot.left,
            release: slot.release.map(|release| SlotReleaseView {
                id: release.id,
                opens_at: time_text(release.opens_at, zone),
                closes_at: time_text(release.closes_at, zone),
                status: release.word(now).as_str(),
            }),
        }
    }
}

/// Returns the time zone of a hospital; UTC if this machine does not know it.
pub fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap_or_else(|error| {
        tracing::error!(%error, "a hospital's time zone is not known here");
        TimeZone::UTC
    })
}
