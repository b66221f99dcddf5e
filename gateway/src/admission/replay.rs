//! A request that came before gets its first answer again.

use std::sync::Arc;
use std::time::Duration;

use booking::{BookingId, Epoch, Reason};
use ledger::booking_row::BookingRow;

use super::memory::Accepted;
use super::place::publish;
use super::{Admitted, Wish};
use crate::app::App;

/// How long a replay looks for the row before it goes on without.
const ROW_WAIT: Duration = Duration::from_millis(400);

/// Answers a request that memory, or PostgreSQL, says came before as `id`.
pub(super) async fn answer(app: App, id: BookingId, wish: Wish) -> Admitted {
    let row = app.rows.find(id, ROW_WAIT).await;
    if let Ok(Some(row)) = row {
        return first(&app, row.row(), &wish).await;
    }
    let certain = app.memory.by_id(id).filter(|known| known.is_certain() && !known.is_final());
    if let Some(accepted) = certain {
        return Admitted::Accepted(accepted);
    }
    again(app, id, wish, None).await
}

/// Answers a request that Redis says came before as `id`.
pub(super) async fn held(app: App, id: BookingId, epoch: Epoch, wish: Wish) -> Admitted {
    match app.rows.find(id, ROW_WAIT).await {
        // Two accounts may act for one patient; a booking is shown to the one that made it.
        Ok(Some(row)) if row.booking.account != wish.account => Admitted::AlreadyBooked,
        Ok(Some(row)) => first(&app, row.row(), &wish).await,
        Ok(None) | Err(_) => again(app, id, wish, Some(epoch)).await,
    }
}

/// Answers with the row of the first attempt. If another booking under the same key superseded it,
/// that one is the first: through whichever gateway the repeat comes, the answer is the same.
async fn first(app: &App, row: &Arc<BookingRow>, wish: &Wish) -> Admitted {
    app.memory.note_final(row, wish.asked_at);
    if row.reason != Some(Reason::Superseded) {
        return Admitted::Final(Arc::clone(row));
    }
    match app.ledger.superseding(row.booking.id).await {
        Ok(Some(standing)) if standing.booking.account != wish.account => {
            Admitted::Final(Arc::clone(row))
        }
        Ok(Some(standing)) if standing.booking.request == wish.request() => {
            app.memory.note_final(&standing, wish.asked_at);
            Admitted::Final(Arc::new(standing))
        }
        Ok(Some(_)) => Admitted::KeyReused,
        Ok(None) => Admitted::Final(Arc::clone(row)),
        Err(error) => {
            tracing::debug!(%error, "what superseded a booking could not be looked up");
            Admitted::LedgerDown
        }
    }
}

/// Publishes the first attempt again: whoever says "queued" has seen a confirm and checked the
/// epoch after it. A second copy in the queue does no harm.
async fn again(app: App, id: BookingId, wish: Wish, epoch: Option<Epoch>) -> Admitted {
    let remembered = app.memory.by_id(id);
    if remembered.as_ref().is_some_and(|accepted| accepted.is_final()) {
        // Its row was told and can't be read now. "Queued" would be a step back.
        return Admitted::LedgerDown;
    }
    match app.inventory.find(id).await {
        Ok(Some(booking)) if booking.account != wish.account => Admitted::AlreadyBooked,
        Ok(Some(booking)) => {
            let accepted = remembered.unwrap_or_else(|| Arc::new(Accepted::new(booking, None)));
            publish(&app, app.memory.remember(accepted)).await
        }
        // Settled between the two looks, most likely: the row is there now.
        Ok(None) => match app.rows.find(id, ROW_WAIT).await {
            Ok(Some(row)) if row.booking.account != wish.account => Admitted::AlreadyBooked,
            Ok(Some(row)) => first(&app, row.row(), &wish).await,
            Ok(None) => lost(&app, id, &wish, remembered, epoch),
            Err(_) => Admitted::LedgerDown,
        },
        Err(error) => {
            tracing::debug!(%error, "a replay found no outbox");
            remembered.map_or(Admitted::InventoryDown, Admitted::Accepted)
        }
    }
}

/// Neither row nor outbox has it: pending, until it turns up or lapses.
fn lost(
    app: &App,
    id: BookingId,
    wish: &Wish,
    remembered: Option<Arc<Accepted>>,
    epoch: Option<Epoch>,
) -> Admitted {
    let Some(epoch) = remembered.as_ref().map(|accepted| accepted.booking.epoch).or(epoch) else {
        return Admitted::Recovering;
    };
    Admitted::Accepted(remembered.unwrap_or_else(|| {
        let booking = wish.booking(id, epoch, id.minted_at());
        app.memory.remember(Arc::new(Accepted::new(booking, None)))
    }))
}
