//! What was asked and answered in a round.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use booking::{BookingId, PatientId};
use rush::answer::{Answer, Status};
use rush::history::{Event, History};

use super::fate::Fate;

/// Events of bookings and questions, in the order of their answers, and cancels.
#[derive(Debug, Default)]
pub(super) struct Records {
    events: Mutex<Vec<Event>>,
    cancels: Mutex<BTreeMap<BookingId, bool>>,
}

impl Records {
    pub(super) fn record(&self, event: Event) {
        lock(&self.events).push(event);
    }

    /// Notes that a cancel was sent, and whether it was answered as done.
    pub(super) fn record_cancel(&self, id: BookingId, is_done: bool) {
        *lock(&self.cancels).entry(id).or_default() |= is_done;
    }

    /// Returns every id that anybody was told "queued" of so far.
    pub(super) fn promised(&self) -> BTreeSet<BookingId> {
        let events = lock(&self.events);
        let ids = events.iter().filter_map(|event| match event.answer {
            Answer::Booking { id, status: Status::Queued, .. } => Some(id),
            _ => None,
        });
        ids.collect()
    }

    /// Returns all so far.
    pub(super) fn history(&self, crowd: &[PatientId], fate: &Fate) -> History {
        let events = lock(&self.events).clone();
        let (redis_was_lost, forgot) = (fate.lost_until.is_some(), fate.forgot.clone());
        History { crowd: crowd.to_vec(), events, redis_was_lost, forgot }
    }

    /// Returns the bookings somebody tried to cancel, and which of the cancels were answered as done.
    pub(super) fn cancels(&self) -> BTreeMap<BookingId, bool> {
        lock(&self.cancels).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked while holding it has still only added: what is there is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
