//! What became of a booking: poll, long-poll, events.
//!
//! The order of the looks is fixed: the row, this gateway's memory if it is certain there, the
//! outbox, the memory again, the row again (a booking leaves the outbox only when its row stands, so
//! whoever finds neither looks once more).
//! What is found nowhere while quota recovers is not "not found" but "ask again".

pub mod next_poll;
pub mod progress;
pub mod promises;
pub mod rows;
pub mod view;
pub mod waiters;
pub mod watermark;

use std::sync::Arc;
use std::time::Duration;

use booking::{AccountId, Booking, BookingId, Partition};
use ledger::booking_row::Lapsed;
use tokio::time::Instant;

use crate::admission::memory::Accepted;
use crate::app::App;
use crate::status::rows::FinalRow;

/// A question about a booking.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The booking.
    pub id: BookingId,
    /// Who asks.
    pub account: AccountId,
    /// When: whatever was told before binds the answer.
    pub asked_at: Instant,
}

impl Question {
    /// Notes a question that is asked now.
    pub fn new(id: BookingId, account: AccountId) -> Self {
        Self { id, account, asked_at: Instant::now() }
    }
}

/// What is known of a booking.
#[derive(Clone, Debug)]
pub enum Known {
    /// Its final row.
    Row(Arc<FinalRow>),
    /// Accepted, not final yet.
    Accepted(Arc<Accepted>),
    /// There is no such booking, or it is another account's.
    NotFound,
    /// It can't be told now: quota is being put in order.
    Recovering,
    /// It can't be told now: PostgreSQL does not answer.
    LedgerDown,
    /// It can't be told now: Redis does not answer.
    InventoryDown,
}

const ROW_WAIT: Duration = Duration::from_millis(700);
/// How old a pending booking must be before it may lapse.
const LAPSE_AFTER_MS: u64 = 5_000;

/// Finds out what became of a booking of this account.
pub async fn find(app: &App, question: Question) -> Known {
    let Question { id, account, .. } = question;
    if id.partition().get() >= app.partitions.get() {
        return Known::NotFound;
    }
    let row =
        if app.epochs.is_ledger_up() { app.rows.find(id, ROW_WAIT).await } else { Err(rows::Down) };
    if let Ok(Some(row)) = row {
        return own_row(app, row, question);
    }
    let remembered = app.memory.by_id(id);
    if row.is_err() && remembered.as_ref().is_some_and(|accepted| accepted.is_final()) {
        // "Queued" after "booked" or "cancelled" would be a step back.
        return Known::LedgerDown;
    }
    if let Some(accepted) = remembered.clone().filter(|accepted| accepted.is_certain()) {
        // It will have its row; where it is until then changes nothing for its patient.
        return own(accepted, account);
    }
    // In a box: it is large and few need it, and every poll would carry room for it.
    Box::pin(elsewhere(app, question, remembered, row.is_ok())).await
}

/// Looks in the outbox for a booking that has no row and is not certain here.
async fn elsewhere(
    app: &App,
    question: Question,
    remembered: Option<Arc<Accepted>>,
    is_ledger_up: bool,
) -> Known {
    let Question { id, account, .. } = question;
    match app.inventory.find(id).await {
        Ok(Some(booking)) => own_booking(app, booking, remembered, account),
        Ok(None) => nowhere(app, question, remembered, is_ledger_up).await,
        Err(error) => {
            tracing::debug!(%error, "a status found no outbox");
            match remembered {
                Some(accepted) => own(accepted, account),
                None => Known::InventoryDown,
            }
        }
    }
}

/// Returns an account's booking that is certain and was accepted here. Whoever is going to wait for
/// its row anyway needs no look at the servers first.
pub fn certain_here(app: &App, question: Question) -> Option<Known> {
    let accepted = app.memory.by_id(question.id)?;
    let is_own = accepted.booking.account == question.account
        && accepted.is_certain()
        && !accepted.is_final();
    is_own.then_some(Known::Accepted(accepted))
}

/// Waits until the booking is final, or `until`. `known` is what is known now.
pub async fn wait(app: &App, question: Question, until: Instant, known: Known) -> Known {
    let Known::Accepted(accepted) = &known else { return known };
    let Some(mut waiter) = app.waiters.join(question.id) else { return find(app, question).await };
    let limit = until.saturating_duration_since(Instant::now());
    let row = tokio::select! {
        row = waiter.answer(limit) => row,
        // A program that stops keeps nobody waiting.
        () = app.shutdown.cancelled() => None,
    };
    match row {
        Some(row) => own_row(app, Arc::new(FinalRow::new(row)), question),
        None if accepted.is_certain() => known,
        // It may have become certain, or lapsed.
        None => find(app, question).await,
    }
}

async fn nowhere(
    app: &App,
    question: Question,
    remembered: Option<Arc<Accepted>>,
    is_ledger_up: bool,
) -> Known {
    let Question { id, account, .. } = question;
    if !is_ledger_up {
        return remembered.map_or(Known::LedgerDown, |accepted| own(accepted, account));
    }
    match app.rows.find(id, ROW_WAIT).await {
        Ok(Some(row)) => return own_row(app, row, question),
        Ok(None) => {}
        Err(rows::Down) => {
            return remembered.map_or(Known::LedgerDown, |accepted| own(accepted, account));
        }
    }
    let is_recovering = app.epochs.is_recovering(id.partition());
    match remembered {
        Some(accepted) if accepted.booking.account != account => Known::NotFound,
        Some(accepted) if accepted.is_certain() || is_recovering => Known::Accepted(accepted),
        Some(accepted) => lapse(app, accepted, question).await,
        None if is_recovering || !is_nowhere(app, id).await => Known::Recovering,
        None => Known::NotFound,
    }
}

/// Tells whether it is certain that nothing holds the booking: neither the outbox of the current
/// epoch's own ledger, nor, its outbox lost, the queue.
///
/// Redis may have been lost a moment ago, and this gateway not know it yet: then what was promised
/// by another gateway is in the queue alone.
async fn is_nowhere(app: &App, id: BookingId) -> bool {
    let partition = id.partition();
    if !is_ledger_true(app, partition).await {
        return false;
    }
    // Once more, now that the ledger is known to be the true one.
    if !matches!(app.inventory.find(id).await, Ok(None)) {
        return false;
    }
    // Not sealed after the look: no other ledger can have sold meanwhile.
    let (ledger, epoch) = (app.ledger.clone(), app.epochs.current(partition));
    let open = app.tasks.spawn(async move { ledger.are_open(&[(partition, epoch)]).await }).await;
    matches!(open, Ok(Ok(open)) if open == [true])
}

/// S1: ends a pending booking that nothing holds any more, so that its patient is free again.
async fn lapse(app: &App, accepted: Arc<Accepted>, question: Question) -> Known {
    let booking = accepted.booking.clone();
    let age_ms = app.clock.now().since(booking.accepted_at);
    if age_ms < LAPSE_AFTER_MS || !is_ledger_true(app, booking.id.partition()).await {
        return Known::Accepted(accepted);
    }
    // Once more, now that the ledger is known to be the true one.
    if !matches!(app.inventory.find(booking.id).await, Ok(None)) {
        return Known::Accepted(accepted);
    }
    let ledger = app.ledger.clone();
    let lapsed = app.tasks.spawn(async move { ledger.lapse(&booking).await }).await;
    match lapsed {
        Ok(Ok(Lapsed::Row(row))) => own_row(app, Arc::new(FinalRow::new(Arc::new(row))), question),
        Ok(Ok(Lapsed::NotYet)) | Err(_) => Known::Accepted(accepted),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a pending booking could not lapse");
            Known::Accepted(accepted)
        }
    }
}

/// Tells whether Redis holds the current epoch's own ledger: only its outbox is evidence.
async fn is_ledger_true(app: &App, partition: Partition) -> bool {
    let current = app.epochs.current(partition);
    let Ok(seen) = app.inventory.inspect(partition).await else { return false };
    seen.ledger.is_some_and(|head| head.open && head.epoch == current && head.term == seen.term)
}

fn own_row(app: &App, row: Arc<FinalRow>, question: Question) -> Known {
    if row.booking.account != question.account {
        // Nobody is told anything.
        app.memory.note_row(&row);
        return Known::NotFound;
    }
    app.memory.note_final(&row, question.asked_at);
    Known::Row(row)
}

fn own(accepted: Arc<Accepted>, account: AccountId) -> Known {
    if accepted.booking.account == account { Known::Accepted(accepted) } else { Known::NotFound }
}

fn own_booking(
    app: &App,
    booking: Booking,
    remembered: Option<Arc<Accepted>>,
    account: AccountId,
) -> Known {
    let accepted = remembered.unwrap_or_else(|| {
        // Accepted by another gateway, or before a restart. Pending, for all this one knows.
        app.memory.remember(Arc::new(Accepted::new(booking, None)))
    });
    own(accepted, account)
}
