//! I8, at the moment of the answer: once a key was told to stand for a booking, it does for ever.

use booking::State;

use super::memory::Accepted;
use super::{Admitted, Wish};
use crate::violations;

/// Holds what came of a wish against the first booking under its key, as it was remembered before.
pub(super) fn check(first: &Accepted, wish: &Wish, outcome: &Admitted) {
    if let Some(detail) = contradiction(first, wish, outcome) {
        violations::count("I8", first.booking.id, detail);
    }
}

/// A rejected booking binds nothing but its own id: the one that superseded it may be shown instead.
/// Before the end was told, a loss of Redis may leave two under a key; one of them is superseded.
fn contradiction(first: &Accepted, wish: &Wish, outcome: &Admitted) -> Option<&'static str> {
    let stands = match first.end_told_before(wish.asked_at) {
        Some(State::Booked | State::Cancelled) => true,
        Some(State::Rejected) | None => false,
    };
    let booking = match outcome {
        Admitted::Accepted(accepted) => Some(&accepted.booking),
        Admitted::Final(row) => Some(&row.booking),
        _ => None,
    };
    let is_repeat = first.booking.request == wish.request();
    match booking {
        Some(booking) if !is_repeat && stands && booking.id != first.booking.id => {
            Some("another wish was accepted under a key that stands for a booking")
        }
        Some(booking) if is_repeat && booking.id != first.booking.id => {
            // Within an epoch the ledger of Redis was not lost: it knew the key.
            let is_one_ledger = first.is_certain() && booking.epoch == first.booking.epoch;
            let is_told = stands || (is_one_ledger && !first.is_final());
            is_told.then_some("a repeat was answered with another booking")
        }
        None if is_repeat && stands && outcome.is_for_good() => {
            Some("a repeat of a request that was granted was refused")
        }
        Some(_) | None => None,
    }
}

impl Admitted {
    /// Tells whether it refuses the attempt for good, not for a moment.
    const fn is_for_good(&self) -> bool {
        match self {
            Self::Refused(_) | Self::KeyReused | Self::AlreadyBooked | Self::LimitReached(_) => {
                true
            }
            Self::Accepted(_)
            | Self::Final(_)
            | Self::Overloaded
            | Self::Recovering
            | Self::InventoryDown
            | Self::BrokerDown
            | Self::LedgerDown => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use booking::{AccountId, BookingId, Digest, Epoch, PatientId, SlotId, UnixMs};
    use ledger::booking_row::BookingRow;
    use tokio::time::Instant;

    use super::*;
    use crate::violations::shown;

    fn wish(slot: i64) -> Wish {
        Wish::new(AccountId::from(1), SlotId::from(slot), PatientId::from(1), Digest::of_key("k"))
    }

    fn accepted(id: i64, epoch: i64) -> Arc<Accepted> {
        let booking = wish(256).booking(BookingId::from(id), Epoch(epoch), UnixMs(0));
        Arc::new(Accepted::new(booking, None))
    }

    fn told(state: State) -> Arc<Accepted> {
        let first = accepted(1, 1);
        let (booking, persisted_at, changed_at) = (first.booking.clone(), UnixMs(0), UnixMs(0));
        let (reason, number, version) = (None, None, 1);
        let row = BookingRow { booking, state, reason, number, version, persisted_at, changed_at };
        first.note_end(&row, Instant::now());
        std::thread::sleep(std::time::Duration::from_millis(1));
        first
    }

    #[test]
    fn a_key_that_was_told_to_stand_for_a_booking_is_answered_nothing_else() {
        let before = shown("I8");
        let booked = told(State::Booked);
        let (repeat, other) = (wish(256), wish(257));
        let second = || Admitted::Accepted(accepted(2, 2));
        check(&booked, &repeat, &second());
        check(&booked, &other, &second());
        check(&booked, &repeat, &Admitted::AlreadyBooked);
        assert_eq!(shown("I8"), before + 3);
        check(&booked, &repeat, &Admitted::Accepted(accepted(1, 1)));
        check(&booked, &other, &Admitted::KeyReused);
        check(&booked, &repeat, &Admitted::LedgerDown);
        check(&told(State::Rejected), &repeat, &second());
        assert_eq!(shown("I8"), before + 3);
    }

    #[test]
    fn before_its_end_was_told_only_one_ledger_binds_a_key_to_an_id() {
        let (promised, repeat) = (accepted(1, 1), wish(256));
        promised.set_certain();
        let second = |epoch| Admitted::Accepted(accepted(2, epoch));
        assert!(contradiction(&promised, &repeat, &second(1)).is_some());
        assert_eq!(contradiction(&promised, &repeat, &second(2)), None);
        assert_eq!(contradiction(&accepted(1, 1), &repeat, &second(1)), None);
    }
}
