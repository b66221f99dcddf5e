//! A booking as the API shows it.

use std::sync::Arc;
use std::time::Duration;

use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use booking::State;
use bytes::Bytes;
use jiff::tz::TimeZone;
use ledger::booking_row::BookingRow;
use serde::Serialize;
use tokio::time::Instant;

use super::{Known, next_poll};
use crate::admission::memory::Accepted;
use crate::app::App;
use crate::extract::{Json, json_text};
use crate::header_number;
use crate::problem::{Code, Problem};
use crate::time_text;

/// Where a booking stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Accepted for good: it becomes an appointment unless the patient's own limits forbid it.
    Queued,
    /// Accepted, but not for certain yet. Not a promise.
    Pending,
    /// An appointment.
    Booked,
    /// Ended without a place.
    Rejected,
    /// Given back.
    Cancelled,
}

impl Status {
    /// Tells whether nothing follows by itself.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Pending => false,
            Self::Booked | Self::Rejected | Self::Cancelled => true,
        }
    }
}

/// A booking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = Booking)]
pub struct BookingView {
    /// Its id.
    #[schema(example = "117093590311632897")]
    pub id: String,
    /// Where it stands.
    pub status: Status,
    /// The slot.
    pub slot_id: String,
    /// The clinic session of the slot.
    pub session_id: String,
    /// The person to be seen.
    pub patient_id: String,
    /// The order of being seen within the slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// Why it was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Its place in the queue, while known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueView>,
    /// When it was accepted (RFC 3339).
    #[schema(format = DateTime)]
    pub accepted_at: String,
    /// When its answer became durable (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub persisted_at: Option<String>,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = Queue)]
pub struct QueueView {
    /// From 1, the next.
    pub position: u64,
    /// How long it may take (ms); absent while unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_wait_ms: Option<u64>,
}

/// How long a view waits to learn the hospital's time zone.
const ZONE_WAIT: Duration = Duration::from_millis(200);

/// Shows what is known of a booking to who asked at this time, or says why nothing can be shown.
pub async fn show(app: &App, known: Known, asked_at: Instant) -> Result<BookingView, Problem> {
    match known {
        Known::Row(row) => Ok(of_row(&row, &zone(app, &row.booking).await)),
        Known::Accepted(accepted) => Ok(of_accepted(app, &accepted, asked_at).await),
        Known::NotFound => Err(Code::NotFound.into()),
        Known::Recovering => Err(Code::QuotaRecovering.into()),
        Known::LedgerDown => Err(Code::LedgerUnavailable.into()),
        Known::InventoryDown => Err(Code::InventoryUnavailable.into()),
    }
}

/// Writes what is known of a booking to who asked at this time, or says why nothing can be shown.
///
/// The text of a row is kept with it: while the row is the same, so is what its account is answered.
pub async fn write(app: &App, known: Known, asked_at: Instant) -> Result<Response, Problem> {
    match known {
        Known::Row(row) => {
            if let Some(text) = row.text.get() {
                return Ok(json_text(text.clone()));
            }
            let zone = app.facts.zone(row.booking.slot.session(), ZONE_WAIT).await;
            let is_lasting = zone.is_some();
            let view = of_row(&row, &zone.unwrap_or(TimeZone::UTC));
            let Ok(text) = serde_json::to_vec(&view).map(Bytes::from) else {
                return Err(Code::Internal.into());
            };
            if is_lasting {
                let _ = row.text.set(text.clone());
            }
            Ok(json_text(text))
        }
        Known::Accepted(accepted) => Ok(waiting(app, &accepted, asked_at).await),
        other => show(app, other, asked_at).await.map(|view| Json(view).into_response()),
    }
}

/// Writes an accepted booking to who asked at this time, and when to ask again.
pub async fn waiting(app: &App, accepted: &Arc<Accepted>, asked_at: Instant) -> Response {
    let view = of_accepted(app, accepted, asked_at).await;
    // What is not in the queue for certain has no turn there.
    let queue = view.queue.filter(|_| view.status == Status::Queued);
    let wait_ms = queue.and_then(|queue| queue.estimated_wait_ms);
    let booking = &accepted.booking;
    let age_ms = app.clock.now().since(booking.accepted_at);
    let after_s = next_poll::after_s(booking.id, wait_ms, age_ms);
    let mut response = Json(view).into_response();
    response.headers_mut().insert(RETRY_AFTER, header_number::of(after_s));
    response
}

/// Shows an accepted booking to who asked at this time.
pub async fn of_accepted(app: &App, accepted: &Arc<Accepted>, asked_at: Instant) -> BookingView {
    accepted.note_waiting(asked_at);
    let booking = &accepted.booking;
    let zone = zone(app, booking).await;
    let status = if accepted.is_certain() { Status::Queued } else { Status::Pending };
    let queue = app.progress.place(accepted).map(|place| QueueView {
        position: place.position,
        estimated_wait_ms: place.estimated_wait_ms,
    });
    BookingView { queue, ..plain(booking, status, &zone) }
}

/// Shows a final booking.
pub fn of_row(row: &BookingRow, zone: &TimeZone) -> BookingView {
    let status = match row.state {
        State::Booked => Status::Booked,
        State::Cancelled => Status::Cancelled,
        State::Rejected => Status::Rejected,
    };
    BookingView {
        number: row.number,
        reason: row.reason.map(booking::Reason::as_str),
        persisted_at: Some(time_text(row.persisted_at, zone)),
        ..plain(&row.booking, status, zone)
    }
}

/// Returns the time zone of a booking's hospital; UTC if it can't be learnt in time.
pub async fn zone(app: &App, booking: &booking::Booking) -> TimeZone {
    app.facts.zone(booking.slot.session(), ZONE_WAIT).await.unwrap_or(TimeZone::UTC)
}

fn plain(booking: &booking::Booking, status: Status, zone: &TimeZone) -> BookingView {
    BookingView {
        id: booking.id.to_string(),
        status,
        slot_id: booking.slot.to_string(),
        session_id: booking.slot.session().to_string(),
        patient_id: booking.patient.to_string(),
        number: None,
        reason: None,
        queue: None,
        accepted_at: time_text(booking.accepted_at, zone),
        persisted_at: None,
    }
}
