//! What this gateway remembers of the bookings it accepted.

use std::sync::Arc;
use std::time::Duration;

use booking::{AccountId, BookingId, Digest, Partition, PatientId};
use ledger::booking_row::{BookingRow, Change};
use tokio::time::Instant;

pub use super::accepted::{Accepted, Ticket};

use super::Wish;
use super::held::HeldByPatient;
use super::keys::KeysInFlight;
use super::looks::Looks;
use super::promised::Promised;
use super::refusals::{Known, Refusals};
use crate::recent::Recent;
use crate::tally::ByWord;
use crate::violations;

/// How long an accepted booking is remembered.
const TTL: Duration = Duration::from_mins(10);
const ACCEPTED_MAX: usize = 100_000;
const SLOTS_MAX: usize = 50_000;

/// Outcomes of wishes by their words, those of a rush first.
const WORDS: [&str; 6] =
    ["slot_exhausted", "queued", "pending", "release_not_open", "already_booked", "final"];

/// The memory of admission.
#[derive(Debug)]
pub struct Memory {
    /// Refusals by slot.
    pub refusals: Refusals,
    /// Keys whose requests are on their way.
    pub keys_in_flight: KeysInFlight,
    /// What patients hold, as PostgreSQL tells it.
    pub held: HeldByPatient,
    /// Bookings that were promised and whose rows were not read yet.
    pub promised: Promised,
    /// Ids under which Redis was asked, and refused for good.
    refused: Recent<BookingId, ()>,
    /// What came of wishes, counted.
    pub outcomes: ByWord<{ WORDS.len() }>,
    accepted: Recent<BookingId, Arc<Accepted>>,
    keys: Recent<(AccountId, Digest), Arc<Accepted>>,
    patients: Recent<PatientId, ()>,
    /// What outboxes were seen to hold.
    pub looks: Looks,
}

/// Whether a patient won something before a refusal began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Winner {
    /// Surely nothing.
    No,
    /// Redis must be asked.
    Perhaps,
    /// Nobody has looked since.
    NotSeen,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            refusals: Refusals::new(SLOTS_MAX),
            keys_in_flight: KeysInFlight::default(),
            held: HeldByPatient::default(),
            promised: Promised::default(),
            refused: Recent::new(TTL, ACCEPTED_MAX),
            outcomes: ByWord::new(
                WORDS,
                |word| metrics::counter!("slotrush_admissions_total", "outcome" => word),
            ),
            accepted: Recent::new(TTL, ACCEPTED_MAX),
            keys: Recent::new(TTL, ACCEPTED_MAX),
            patients: Recent::new(TTL, ACCEPTED_MAX),
            looks: Looks::default(),
        }
    }
}

impl Memory {
    /// Remembers an accepted booking, unless it is known already; returns what is known.
    ///
    /// Two requests may meet a booking of another gateway at once. If the later one put its own note in
    /// the place of the first, what the first has made certain meanwhile would be forgotten.
    pub fn remember(&self, accepted: Arc<Accepted>) -> Arc<Accepted> {
        let id = accepted.booking.id;
        let known = self.accepted.update(&id, |known| Arc::clone(known.get_or_insert(accepted)));
        let booking = &known.booking;
        self.keys.put((booking.account, booking.key), Arc::clone(&known));
        self.patients.put(booking.patient, ());
        known
    }

    /// Returns what was accepted under this id.
    pub fn by_id(&self, id: BookingId) -> Option<Arc<Accepted>> {
        self.accepted.get(&id)
    }

    /// Notes that who asked at this time is told how a booking ended, so that nobody is told "queued"
    /// or "pending" afterwards: also of another gateway's, whose entry may still stand in the outbox.
    pub fn note_final(&self, row: &BookingRow, asked_at: Instant) {
        let booking = &row.booking;
        if let Some(accepted) = self.accepted.get_younger(&booking.id) {
            // Nearly every poll of a booking that has ended.
            return accepted.note_end(row, asked_at);
        }
        let accepted = self.accepted.update(&booking.id, |known| {
            let new = || Arc::new(Accepted::new(booking.clone(), None));
            Arc::clone(known.get_or_insert_with(new))
        });
        accepted.note_end(row, asked_at);
    }

    /// Notes that this patient may have won: from memory nothing is refused to them for a while.
    pub fn note_perhaps(&self, patient: PatientId) {
        self.patients.put(patient, ());
    }

    /// Notes that nobody was given anything under this id, and was told so.
    pub fn note_refused(&self, id: BookingId) {
        self.refused.put(id, ());
    }

    /// Notes what changed in the ledger: what patients hold, and whether it is what was told here.
    pub fn learn(&self, changes: &[Change]) {
        self.held.learn(changes);
        for change in changes {
            self.note_row(&change.row);
        }
    }

    /// Holds a row against what was accepted, promised or refused under its id.
    pub fn note_row(&self, row: &BookingRow) {
        let id = row.booking.id;
        if let Some(accepted) = self.by_id(id) {
            accepted.note_row(row);
        }
        if row.state.is_live() && self.refused.get(&id).is_some() {
            // Once: a row may be read again.
            self.refused.update(&id, |refused| *refused = None);
            violations::count("I7", id, "an attempt that was refused has a live row");
        }
    }

    /// Returns what was accepted for this idempotency key here.
    pub fn by_key(&self, wish: &Wish) -> Option<Arc<Accepted>> {
        self.keys.get(&(wish.account, wish.key))
    }

    /// Tells whether this patient is known to have won nothing before the refusal began, so that it may be
    /// given without asking Redis.
    ///
    /// A retry of a request that won must get the first answer, though the slot is sold out by
    /// now. Whoever won before the refusal began is in one of four places: this gateway's own
    /// memory, the outbox, a row in PostgreSQL, or, on its way from the outbox to its row, both.
    /// The outbox is read first and the rows after it, so nobody slips through between the two.
    /// Only if both were read after the refusal began is silence about a patient knowledge, and only
    /// for a second: a gateway that is cut off reads nothing new.
    ///
    /// What is left: a place that came back, was sold through another gateway to this patient, and
    /// whose request is repeated here, all within half a second (a second while Redis or PostgreSQL does
    /// not answer this gateway).
    pub fn judge(&self, patient: PatientId, partition: Partition, known: &Known) -> Winner {
        if !known.refusal.may_have_winners() {
            return Winner::No;
        }
        let in_outbox = self.looks.has_entry(patient, partition, known.since);
        // After the outbox: whoever had left it has a row that was read before this look was shown.
        if self.held.knows(patient) || self.patients.get(&patient).is_some() {
            return Winner::Perhaps;
        }
        match in_outbox {
            Some(true) => Winner::Perhaps,
            Some(false) => Winner::No,
            None => Winner::NotSeen,
        }
    }
}

#[cfg(test)]
mod tests {
    use booking::{Epoch, SlotId, State, UnixMs};

    use super::*;

    fn accepted() -> Arc<Accepted> {
        let wish = Wish::new(
            AccountId::from(1),
            SlotId::from(256),
            PatientId::from(1),
            Digest::of_key("k"),
        );
        Arc::new(Accepted::new(wish.booking(9.into(), Epoch(1), UnixMs(0)), None))
    }

    #[test]
    fn who_meets_a_booking_second_does_not_undo_what_the_first_made_certain() {
        let memory = Memory::default();
        let first = memory.remember(accepted());
        first.set_certain();
        assert!(memory.remember(accepted()).is_certain());
        assert!(memory.by_id(9.into()).is_some_and(|known| known.is_certain()));
    }

    fn row(booking: &booking::Booking) -> BookingRow {
        BookingRow {
            booking: booking.clone(),
            state: State::Booked,
            reason: None,
            number: Some(1),
            version: 1,
            persisted_at: UnixMs(0),
            changed_at: UnixMs(0),
        }
    }

    #[test]
    fn an_end_that_was_told_is_known_also_of_a_booking_of_another_gateway() {
        let memory = Memory::default();
        memory.note_final(&row(&accepted().booking), Instant::now());
        assert!(memory.by_id(9.into()).is_some_and(|known| known.is_final()));
        assert!(memory.remember(accepted()).is_final());
    }

    #[test]
    fn a_live_row_that_was_refused_or_is_of_another_wish_is_counted_once() {
        let (memory, before) = (Memory::default(), violations::shown("I7"));
        let other = Wish::new(
            AccountId::from(1),
            SlotId::from(257),
            PatientId::from(1),
            Digest::of_key("k"),
        );
        let refused = row(&other.booking(8.into(), Epoch(1), UnixMs(0)));
        memory.note_refused(8.into());
        memory.note_row(&refused);
        memory.note_row(&refused);
        assert_eq!(violations::shown("I7"), before + 1);
        memory.remember(accepted());
        let changed = row(&other.booking(9.into(), Epoch(1), UnixMs(0)));
        memory.note_row(&changed);
        memory.note_row(&changed);
        assert_eq!(violations::shown("I7"), before + 2);
        memory.note_row(&row(&other.booking(7.into(), Epoch(1), UnixMs(0))));
        assert_eq!(violations::shown("I7"), before + 2);
    }
}
