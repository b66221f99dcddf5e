//! I3 while the program runs: does every booking that was promised here still have a place somewhere?
//!
//! A promise without a row after half a minute is *overdue*: a server or the workers are away, and the
//! booking waits in the outbox or the queue. It is *lost*, and the invariant broken, if it may not wait
//! any more: its partition has no epoch that is not closed but the current one, whose own ledger is
//! there and has no entry of it, and there is no row. By the same signs a pending booking lapses.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use booking::BookingId;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{ROW_WAIT, is_nowhere};
use crate::admission::memory::Accepted;
use crate::app::App;
use crate::violations;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Overdue promises whose rows are looked up at once …
const ROWS_PER_LOOK: usize = 500;
/// … and those of them that are looked for everywhere.
const SOUGHT_PER_LOOK: usize = 10;
/// Lost bookings that are counted at most.
const LOST_MAX: usize = 10_000;

/// Follows the promises, for ever.
pub async fn follow(app: &App) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lost = Lost::default();
    loop {
        ticks.tick().await;
        let (count, some) =
            app.memory.promised.overdue(Instant::now(), ROWS_PER_LOOK, SOUGHT_PER_LOOK);
        metrics::gauge!("slotrush_promises_overdue").set(u32::try_from(count).unwrap_or(u32::MAX));
        if count == 0 {
            lost.retain(&HashSet::new(), true);
            continue;
        }
        let Some(rowless) = without_row(app, some).await else { continue };
        for accepted in rowless.iter().take(SOUGHT_PER_LOOK) {
            if is_lost(app, accepted).await {
                lost.note(accepted.booking.id);
            }
        }
        let ids = rowless.iter().map(|accepted| accepted.booking.id).collect();
        lost.retain(&ids, count <= ROWS_PER_LOOK);
    }
}

/// Looks the rows up: the follower of changes may not have got to them. Returns who has none;
/// `None` if PostgreSQL does not tell.
async fn without_row(app: &App, some: Vec<Arc<Accepted>>) -> Option<Vec<Arc<Accepted>>> {
    let ids: Vec<BookingId> = some.iter().map(|accepted| accepted.booking.id).collect();
    let ledger = app.ledger.clone();
    // A task of its own: whoever drops this future must not cut a statement short.
    let found = tokio::spawn(async move { ledger.find_bookings(&ids).await }).await;
    let rows = found.ok()?.ok()?;
    for row in &rows {
        app.memory.note_row(row);
        // Memory may have forgotten it, and only it knows then that it has its row.
        let own = some.iter().filter(|accepted| accepted.booking.id == row.booking.id);
        own.for_each(|accepted| accepted.note_row(row));
    }
    // By the rows themselves: of one that is forgotten here nothing is noted.
    let has_row: HashSet<BookingId> = rows.iter().map(|row| row.booking.id).collect();
    Some(some.into_iter().filter(|accepted| !has_row.contains(&accepted.booking.id)).collect())
}

async fn is_lost(app: &App, accepted: &Accepted) -> bool {
    let id = accepted.booking.id;
    // The row last: a booking leaves the outbox only when its row stands. The epochs after
    // PostgreSQL said that the current one is open: an older one is then known not to be closed.
    is_nowhere(app, id).await
        && !app.epochs.is_recovering(id.partition())
        && matches!(app.rows.find(id, ROW_WAIT).await, Ok(None))
}

/// The bookings that are lost.
#[derive(Debug, Default)]
struct Lost(HashSet<BookingId>);

impl Lost {
    fn note(&mut self, id: BookingId) {
        if self.0.len() < LOST_MAX && self.0.insert(id) {
            violations::count("I3", id, "a promised booking is in no store");
        }
    }

    /// Forgets those that were found, if `rowless` is everybody who is overdue.
    fn retain(&mut self, rowless: &HashSet<BookingId>, is_all: bool) {
        if is_all {
            self.0.retain(|id| rowless.contains(id));
        }
        violations::set("I3", u32::try_from(self.0.len()).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::violations::shown;

    #[test]
    fn a_lost_booking_is_shown_until_it_is_found() {
        let (one, two) = (BookingId::from(1), BookingId::from(2));
        assert_eq!(shown("I3"), 0);
        let mut lost = Lost::default();
        lost.note(one);
        lost.note(one);
        lost.note(two);
        lost.retain(&HashSet::from([one]), false);
        assert_eq!(shown("I3"), 2);
        lost.retain(&HashSet::from([one]), true);
        assert_eq!(shown("I3"), 1);
        lost.retain(&HashSet::new(), true);
        assert_eq!(shown("I3"), 0);
    }
}
