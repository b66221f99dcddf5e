//! Everybody who waits for a booking's final answer, served by one task.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use booking::BookingId;
use ledger::Ledger;
use ledger::booking_row::BookingRow;
use tokio::sync::watch;

type Final = Option<Arc<BookingRow>>;

const LOOK_EVERY: Duration = Duration::from_millis(75);
const IDS_PER_QUERY_MAX: usize = 1_000;

/// The waiting ones, by booking.
#[derive(Debug)]
pub struct Waiters {
    waiting: Mutex<HashMap<BookingId, watch::Sender<Final>>>,
    waiters_max: usize,
}

/// A place among the waiting ones.
#[derive(Debug)]
pub struct Waiter {
    waiters: Arc<Waiters>,
    id: BookingId,
    answer: watch::Receiver<Final>,
}

impl Waiters {
    /// Starts with nobody waiting; at most `waiters_max` bookings may be waited for.
    pub fn new(waiters_max: usize) -> Self {
        Self { waiting: Mutex::default(), waiters_max }
    }

    /// Begins to wait; `None` if too many wait already: the caller answers at once.
    pub fn join(self: &Arc<Self>, id: BookingId) -> Option<Waiter> {
        let mut waiting = self.lock();
        let answer = match waiting.get(&id) {
            Some(sender) => sender.subscribe(),
            None if waiting.len() >= self.waiters_max => return None,
            None => {
                let (sender, receiver) = watch::channel(None);
                waiting.insert(id, sender);
                receiver
            }
        };
        Some(Waiter { waiters: Arc::clone(self), id, answer })
    }

    /// Looks for final rows and wakes who waits for them, for ever.
    pub async fn serve(&self, ledger: &Ledger) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let ids: Vec<BookingId> = self.lock().keys().copied().collect();
            metrics::gauge!("slotrush_waiters").set(u32::try_from(ids.len()).unwrap_or(u32::MAX));
            for ids in ids.chunks(IDS_PER_QUERY_MAX) {
                match ledger.find_bookings(ids).await {
                    Ok(rows) => self.wake(rows),
                    Err(error) => tracing::debug!(%error, "looking for final answers failed"),
                }
            }
        }
    }

    fn wake(&self, rows: Vec<BookingRow>) {
        let mut waiting = self.lock();
        for row in rows {
            if let Some(sender) = waiting.remove(&row.booking.id) {
                sender.send_replace(Some(Arc::new(row)));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BookingId, watch::Sender<Final>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Waits for the final answer; `None` after `limit`.
    pub async fn answer(&mut self, limit: Duration) -> Final {
        let found = tokio::time::timeout(limit, self.answer.wait_for(Option::is_some)).await;
        found.ok()?.ok()?.clone()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = self.waiters.lock();
        // The last one to leave: this receiver is still counted.
        if waiting.get(&self.id).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiting.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_is_forgotten_and_too_many_are_turned_away() {
        let waiters = Arc::new(Waiters::new(1));
        let (one, two) = (BookingId::from(1), BookingId::from(2));
        let first = waiters.join(one).expect("a place");
        let second = waiters.join(one).expect("the same booking needs no further place");
        assert!(waiters.join(two).is_none());
        drop(first);
        assert_eq!(waiters.lock().len(), 1);
        drop(second);
        assert!(waiters.join(two).is_some());
    }
}
