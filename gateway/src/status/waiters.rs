//! Everybody who waits for a booking's final answer.
//!
//! They are woken by whoever reads the changes of the ledger. What ended before somebody began to
//! wait for it is not read again, so each new one is looked up once.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use booking::BookingId;
use ledger::booking_row::BookingRow;
use tokio::sync::watch;

type Final = Option<Arc<BookingRow>>;

/// The waiting ones, by booking.
#[derive(Debug)]
pub struct Waiters {
    waiting: Mutex<Waiting>,
    waiters_max: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    senders: HashMap<BookingId, watch::Sender<Final>>,
    /// Those not looked up yet.
    new: HashSet<BookingId>,
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
        let answer = match waiting.senders.get(&id) {
            Some(sender) => sender.subscribe(),
            None if waiting.senders.len() >= self.waiters_max => return None,
            None => {
                let (sender, receiver) = watch::channel(None);
                waiting.senders.insert(id, sender);
                waiting.new.insert(id);
                receiver
            }
        };
        Some(Waiter { waiters: Arc::clone(self), id, answer })
    }

    /// Returns those who began to wait since the last time.
    pub fn take_new(&self) -> Vec<BookingId> {
        self.lock().new.drain().collect()
    }

    /// Gives those back whose look-up failed.
    pub fn look_again(&self, ids: &[BookingId]) {
        let mut waiting = self.lock();
        let Waiting { senders, new } = &mut *waiting;
        new.extend(ids.iter().filter(|id| senders.contains_key(id)));
    }

    /// Returns how many bookings are waited for.
    pub fn count(&self) -> usize {
        self.lock().senders.len()
    }

    /// Wakes who waits for one of these.
    pub fn wake<'a>(&self, rows: impl IntoIterator<Item = &'a BookingRow>) {
        let mut waiting = self.lock();
        for row in rows {
            if let Some(sender) = waiting.senders.remove(&row.booking.id) {
                sender.send_replace(Some(Arc::new(row.clone())));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
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
        if waiting.senders.get(&self.id).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiting.senders.remove(&self.id);
            waiting.new.remove(&self.id);
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
        assert_eq!(waiters.count(), 1);
        drop(second);
        assert!(waiters.join(two).is_some());
    }

    #[test]
    fn who_begins_to_wait_is_looked_up_once_and_again_if_that_failed() {
        let waiters = Arc::new(Waiters::new(10));
        let (one, two) = (BookingId::from(1), BookingId::from(2));
        let stays = waiters.join(one).expect("a place");
        let leaves = waiters.join(two).expect("a place");
        let mut new = waiters.take_new();
        new.sort_unstable();
        assert_eq!(new, [one, two]);
        assert_eq!(waiters.take_new(), []);
        drop(leaves);
        waiters.look_again(&new);
        assert_eq!(waiters.take_new(), [one]);
        drop(stays);
    }
}
