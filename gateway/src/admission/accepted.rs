//! A booking accepted here, and what was told of it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use booking::{Booking, Reason, State};
use ledger::booking_row::BookingRow;
use tokio::time::Instant;

use crate::violations;

/// A booking accepted here, and what was answered.
#[derive(Debug)]
pub struct Accepted {
    /// The booking.
    pub booking: Booking,
    /// Its place in the line, if known.
    pub ticket: Option<Ticket>,
    is_certain: AtomicBool,
    /// Whether its row was read.
    has_row: AtomicBool,
    /// Whether its row says that it came too late.
    is_late: AtomicBool,
    /// Whether that was counted as a promise that was not kept.
    is_reneged: AtomicBool,
    /// How it ended, as was told first, and when.
    ended: OnceLock<(Instant, State)>,
    /// When it was told first that it is cancelled, if something else was told before.
    cancelled: OnceLock<Instant>,
}

/// A place in the line of a partition, within one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Counts the holds of the epoch.
    pub number: u64,
    /// How many of them were settled when this one was taken.
    pub settled: u64,
}

impl Accepted {
    /// Notes a booking of which nothing is certain yet.
    pub fn new(booking: Booking, ticket: Option<Ticket>) -> Self {
        Self {
            booking,
            ticket,
            is_certain: AtomicBool::new(false),
            has_row: AtomicBool::new(false),
            is_late: AtomicBool::new(false),
            is_reneged: AtomicBool::new(false),
            ended: OnceLock::new(),
            cancelled: OnceLock::new(),
        }
    }

    /// Tells whether the booking is confirmed and certified: the patient may be told "queued".
    pub fn is_certain(&self) -> bool {
        self.is_certain.load(Ordering::SeqCst)
    }

    /// Notes that it is.
    pub fn set_certain(&self) {
        self.is_certain.store(true, Ordering::SeqCst);
        self.check_promise();
    }

    /// Tells whether somebody was told here how it ended. Then this says nothing of it any more: only
    /// its row does.
    pub fn is_final(&self) -> bool {
        self.ended.get().is_some()
    }

    /// Tells whether its row was read here.
    pub fn has_row(&self) -> bool {
        self.has_row.load(Ordering::SeqCst)
    }

    /// Notes that its row was read, and holds it against what was accepted (I7) and promised (I4).
    pub fn note_row(&self, row: &BookingRow) {
        if !self.has_row.swap(true, Ordering::SeqCst) && !is_same_wish(&self.booking, &row.booking)
        {
            violations::count("I7", row.booking.id, "the row is of another wish than was accepted");
        }
        match row.reason {
            Some(Reason::Late | Reason::Lapsed) => {
                self.is_late.store(true, Ordering::SeqCst);
                self.check_promise();
            }
            // The patient's own limits, a superseded key, a withdrawn session: no promise covers them.
            Some(
                Reason::AlreadyBooked
                | Reason::LimitReached
                | Reason::Superseded
                | Reason::Withdrawn,
            )
            | None => {}
        }
    }

    /// Notes that its row is told to who asked at this time, and holds it against what was told
    /// before (I10). What was told meanwhile to somebody else binds nobody.
    pub fn note_end(&self, row: &BookingRow, asked_at: Instant) {
        self.note_row(row);
        if let Some(told) = self.end_told_before(asked_at)
            && told != row.state
            && !told.may_become(row.state)
        {
            violations::count("I10", row.booking.id, "another end was told before");
        }
        let now = Instant::now();
        if self.ended.set((now, row.state)).is_err() && row.state == State::Cancelled {
            let _ = self.cancelled.set(now);
        }
    }

    /// Holds "queued" or "pending", told to who asked at this time, against what was told before (I10).
    pub fn note_waiting(&self, asked_at: Instant) {
        if self.end_told_before(asked_at).is_some() {
            violations::count("I10", self.booking.id, "told to wait after its end was told");
        }
    }

    /// Returns the end that was told before this time.
    pub fn end_told_before(&self, asked_at: Instant) -> Option<State> {
        let ended = self.ended.get().filter(|(at, _)| *at < asked_at);
        let cancelled = self.cancelled.get().filter(|at| **at < asked_at);
        cancelled.map(|_| State::Cancelled).or(ended.map(|(_, state)| *state))
    }

    /// I4: certain and late exclude each other, whichever is learnt first.
    fn check_promise(&self) {
        if self.is_certain()
            && self.is_late.load(Ordering::SeqCst)
            && !self.is_reneged.swap(true, Ordering::SeqCst)
        {
            violations::count("I4", self.booking.id, "a promised booking was rejected as late");
        }
    }
}

/// Not the account: another one that acts for the patient may have met the booking first.
fn is_same_wish(one: &Booking, other: &Booking) -> bool {
    let wish = |booking: &Booking| (booking.slot, booking.patient, booking.key, booking.request);
    wish(one) == wish(other)
}

#[cfg(test)]
mod tests {
    use booking::{AccountId, Digest, Epoch, PatientId, SlotId, UnixMs};

    use super::*;
    use crate::admission::Wish;
    use crate::violations::shown;

    fn accepted(id: i64) -> Accepted {
        let wish = Wish::new(
            AccountId::from(1),
            SlotId::from(256),
            PatientId::from(1),
            Digest::of_key("k"),
        );
        Accepted::new(wish.booking(id.into(), Epoch(1), UnixMs(0)), None)
    }

    fn row(accepted: &Accepted, state: State, reason: Option<Reason>) -> BookingRow {
        BookingRow {
            booking: accepted.booking.clone(),
            state,
            reason,
            number: None,
            version: 1,
            persisted_at: UnixMs(0),
            changed_at: UnixMs(0),
        }
    }

    // Each invariant in one test: they share the recorder.
    #[test]
    fn a_promised_booking_that_is_rejected_as_late_is_counted_once_whichever_comes_first() {
        let before = shown("I4");
        let late = |accepted: &Accepted| row(accepted, State::Rejected, Some(Reason::Late));
        let (first, second, pending, limited) =
            (accepted(1), accepted(2), accepted(3), accepted(4));
        first.set_certain();
        first.note_row(&late(&first));
        first.note_row(&late(&first));
        assert_eq!(shown("I4"), before + 1);
        second.note_row(&late(&second));
        second.set_certain();
        assert_eq!(shown("I4"), before + 2);
        pending.note_row(&late(&pending));
        limited.set_certain();
        limited.note_row(&row(&limited, State::Rejected, Some(Reason::LimitReached)));
        assert_eq!(shown("I4"), before + 2);
    }

    #[test]
    fn an_end_that_is_unsaid_to_who_asked_after_it_is_counted() {
        let before = shown("I10");
        let booking = accepted(1);
        let asked_early = Instant::now();
        booking.note_end(&row(&booking, State::Booked, None), asked_early);
        booking.note_waiting(asked_early);
        assert_eq!(shown("I10"), before, "who asked before the end was told may hear less");
        std::thread::sleep(std::time::Duration::from_millis(1));
        booking.note_waiting(Instant::now());
        assert_eq!(shown("I10"), before + 1);
        booking.note_end(&row(&booking, State::Cancelled, None), Instant::now());
        assert_eq!(shown("I10"), before + 1, "a cancel is no contradiction");
        std::thread::sleep(std::time::Duration::from_millis(1));
        booking.note_end(&row(&booking, State::Booked, None), Instant::now());
        assert_eq!(shown("I10"), before + 2);
    }
}
