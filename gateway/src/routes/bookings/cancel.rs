//! `POST /v1/bookings/{id}/cancel`: give an appointment back; its place is sold again.

use axum::extract::State;
use booking::{BookingId, State as Stand};
use ledger::booking_row::{BookingRow, Cancelled};

use crate::app::App;
use crate::auth::Identity;
use crate::extract::{Json, PathId};
use crate::problem::{Code, Problem};
use crate::status::view::{self, BookingView};
use crate::status::{self, Known, Question};

/// Cancel a booking
///
/// Repeating it is answered the same. A booking without its final answer can not be cancelled yet.
#[utoipa::path(
    post,
    path = "/v1/bookings/{id}/cancel",
    tag = "bookings",
    security(("token" = [])),
    params(("id" = String, Path, description = "The booking")),
    responses(
        (status = 200, description = "Cancelled, now or before", body = BookingView),
    )
)]
pub(super) async fn cancel(
    State(app): State<App>,
    identity: Identity,
    PathId(id): PathId<BookingId>,
) -> Result<Json<BookingView>, Problem> {
    let account = identity.account;
    let question = Question::new(id, account);
    if !app.epochs.is_ledger_up() {
        return Err(Code::LedgerUnavailable.into());
    }
    let work = app.clone();
    // Not given up when the client goes away: the row and Redis are to agree.
    let outcome = app.tasks.spawn(async move {
        let outcome = work.ledger.cancel(id, account).await?;
        if let Cancelled::Done(row) = &outcome {
            failpoint::point!("gateway.cancelled");
            settle(&work, row).await;
        }
        Ok::<_, ledger::Error>(outcome)
    });
    let row = match outcome.await.map_err(|_| Problem::new(Code::Internal))?? {
        Cancelled::Done(row) => row,
        Cancelled::NotLive(row) if row.state == Stand::Cancelled => row,
        Cancelled::NotLive(_) => return Err(Code::NotCancellable.into()),
        Cancelled::TooLate(_) => return Err(Code::CancelTooLate.into()),
        Cancelled::NotFound => return Err(unpersisted(&app, question).await),
    };
    app.memory.note_final(&row, question.asked_at);
    let zone = view::zone(&app, &row.booking).await;
    Ok(Json(view::of_row(&row, &zone)))
}

/// Tells Redis that the patient is free again. Best effort: if it is lost, Redis goes on refusing
/// the patient in this session until its ledger is loaded anew.
async fn settle(app: &App, row: &BookingRow) {
    let booking = row.booking.clone();
    app.memory.held.note_cancelled(booking.patient, booking.id);
    let settled = [(booking, false)];
    if let Err(error) = app.inventory.settle(row.booking.id.partition(), &settled).await {
        tracing::info!(booking_id = %row.booking.id, %error, "a cancel was not told to Redis");
    }
}

/// No row: either there is no such booking of this account, or it has no final answer yet.
async fn unpersisted(app: &App, question: Question) -> Problem {
    match status::find(app, question).await {
        Known::Accepted(_) | Known::Row(_) => {
            Problem::new(Code::NotCancellable).with_detail("it has no final answer yet")
        }
        Known::NotFound => Code::NotFound.into(),
        Known::Recovering => Code::QuotaRecovering.into(),
        Known::LedgerDown => Code::LedgerUnavailable.into(),
        Known::InventoryDown => Code::InventoryUnavailable.into(),
    }
}
