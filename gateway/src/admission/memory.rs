//! What this gateway remembers of the bookings it accepted.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use booking::{AccountId, Booking, BookingId, Digest, Partition, PatientId};
use inventory::Inventory;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Wish;
use super::held::{HeldByPatient, Standing};
use super::keys::KeysInFlight;
use super::recent::Recent;
use super::refusals::{Known, Refusals};
use crate::app::App;

/// A booking accepted here, and what was answered.
#[derive(Debug)]
pub struct Accepted {
    /// The booking.
    pub booking: Booking,
    /// Its place in the line, if known.
    pub ticket: Option<Ticket>,
    is_certain: AtomicBool,
    is_final: AtomicBool,
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
        let (is_certain, is_final) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { booking, ticket, is_certain, is_final }
    }

    /// Tells whether the booking is confirmed and certified: the patient may be told "queued".
    pub fn is_certain(&self) -> bool {
        self.is_certain.load(Ordering::Acquire)
    }

    /// Notes that it is.
    pub fn set_certain(&self) {
        self.is_certain.store(true, Ordering::Release);
    }

    /// Tells whether somebody was told here how it ended. Then this says nothing of it any more: only
    /// its row does.
    pub fn is_final(&self) -> bool {
        self.is_final.load(Ordering::Acquire)
    }
}

/// How long an accepted booking is remembered.
const TTL: Duration = Duration::from_mins(10);
const ACCEPTED_MAX: usize = 100_000;
const SLOTS_MAX: usize = 50_000;
/// How old the knowledge of unsettled winners may be.
const SYNC_EVERY: Duration = Duration::from_millis(500);
/// How far behind the newest row to look for whoever has left an outbox.
const ROWS_OVERLAP_MS: i64 = 1_000;
const OUTBOX_PAGE: usize = 1_000;
const OUTBOX_PAGES_MAX: usize = 100;

/// The memory of admission.
#[derive(Debug)]
pub struct Memory {
    /// Refusals by slot.
    pub refusals: Refusals,
    /// Keys whose requests are on their way.
    pub keys_in_flight: KeysInFlight,
    /// What patients hold, as PostgreSQL tells it.
    pub held: HeldByPatient,
    accepted: Recent<BookingId, Arc<Accepted>>,
    keys: Recent<(AccountId, Digest), Arc<Accepted>>,
    patients: Recent<PatientId, ()>,
    unsettled: Vec<Unsettled>,
    wanted: Notify,
}

/// Who has an entry in the outbox of a partition: accepted by whichever gateway, not settled yet.
#[derive(Debug, Default)]
struct Unsettled {
    is_wanted: AtomicBool,
    seen: RwLock<Option<Seen>>,
}

#[derive(Debug)]
struct Seen {
    patients: HashSet<PatientId>,
    /// When the look began.
    at: Instant,
}

impl Default for Memory {
    fn default() -> Self {
        let partitions = usize::from(booking::partition::PARTITIONS_MAX);
        Self {
            refusals: Refusals::new(SLOTS_MAX),
            keys_in_flight: KeysInFlight::default(),
            held: HeldByPatient::default(),
            accepted: Recent::new(TTL, ACCEPTED_MAX),
            keys: Recent::new(TTL, ACCEPTED_MAX),
            patients: Recent::new(TTL, ACCEPTED_MAX),
            unsettled: (0..partitions).map(|_| Unsettled::default()).collect(),
            wanted: Notify::new(),
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

    /// Notes that somebody is told how a booking ended, so that nobody is told "queued" or "pending"
    /// afterwards: also of another gateway's, whose entry may still stand in the outbox.
    pub fn note_final(&self, booking: &Booking) {
        self.accepted.update(&booking.id, |known| {
            let accepted =
                known.get_or_insert_with(|| Arc::new(Accepted::new(booking.clone(), None)));
            accepted.is_final.store(true, Ordering::Release);
        });
    }

    /// Judges a wish by what was accepted for its idempotency key here; `None` if nothing was.
    pub fn by_key(&self, wish: &Wish) -> Option<Standing> {
        let first = self.keys.get(&(wish.account, wish.key))?;
        Some(wish.repeats(&first.booking))
    }

    /// Tells whether this patient may be answered a slot's known refusal without asking Redis.
    ///
    /// A retry of a request that won must get the first answer, though the slot is sold out by
    /// now. Whoever won before the refusal began is in one of four places: this gateway's own
    /// memory, the outbox, a row in PostgreSQL, or, on its way from the outbox to its row, both.
    /// The outbox is read first and the rows after it, so nobody slips through between the two.
    /// Only if both were read after the refusal began is silence about a patient knowledge.
    ///
    /// What is left: a place that came back, was sold through another gateway to this patient, and
    /// whose request is repeated here, all within half a second.
    pub fn may_refuse(&self, patient: PatientId, partition: Partition, known: &Known) -> bool {
        if !known.refusal.may_have_winners() {
            return true;
        }
        let unsettled = self.of(partition);
        unsettled.is_wanted.store(true, Ordering::Relaxed);
        let seen = unsettled.seen.read().unwrap_or_else(PoisonError::into_inner);
        let Some(seen) = seen.as_ref().filter(|seen| seen.at >= known.since) else {
            drop(seen);
            self.wanted.notify_one();
            return false;
        };
        let is_winner = seen.patients.contains(&patient)
            || self.held.knows(patient)
            || self.patients.get(&patient).is_some();
        !is_winner
    }

    fn of(&self, partition: Partition) -> &Unsettled {
        &self.unsettled[usize::from(partition.get())]
    }
}

/// Reads outboxes of partitions where refusals are answered from memory, for ever.
pub async fn follow_outboxes(app: &App) {
    let memory = &app.memory;
    loop {
        let tick = tokio::time::sleep(SYNC_EVERY);
        tokio::select! {
            () = tick => {}
            () = memory.wanted.notified() => {}
        }
        let mut looks = Vec::new();
        for number in 0..booking::partition::PARTITIONS_MAX {
            let partition = Partition::new(number);
            if !memory.of(partition).is_wanted.swap(false, Ordering::Relaxed) {
                continue;
            }
            let at = Instant::now();
            if let Some(patients) = outbox_patients(&app.inventory, partition).await {
                looks.push((partition, Seen { patients, at }));
            }
        }
        if looks.is_empty() {
            continue;
        }
        let (held, waiters) = (&memory.held, &*app.waiters);
        // The rows after the outboxes, and all of them: else silence would not be knowledge.
        let caught_up = app.changes.catch_up(&app.ledger, held, waiters, ROWS_OVERLAP_MS).await;
        if !matches!(caught_up, Ok(true)) {
            continue;
        }
        for (partition, look) in looks {
            let seen = &memory.of(partition).seen;
            *seen.write().unwrap_or_else(PoisonError::into_inner) = Some(look);
        }
    }
}

async fn outbox_patients(
    inventory: &Inventory,
    partition: Partition,
) -> Option<HashSet<PatientId>> {
    let mut patients = HashSet::new();
    let mut cursor = 0;
    for _ in 0..OUTBOX_PAGES_MAX {
        let (next, page) = inventory.scan_outbox(partition, cursor, OUTBOX_PAGE).await.ok()?;
        if !page.unreadable.is_empty() {
            return None;
        }
        patients.extend(page.bookings.iter().map(|booking| booking.patient));
        if next == 0 {
            return Some(patients);
        }
        cursor = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use booking::{Epoch, SlotId, UnixMs};

    use super::*;

    fn accepted() -> Arc<Accepted> {
        let wish = Wish::new(AccountId::from(1), SlotId::from(256), PatientId::from(1), "k");
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

    #[test]
    fn an_end_that_was_told_is_known_also_of_a_booking_of_another_gateway() {
        let memory = Memory::default();
        memory.note_final(&accepted().booking);
        assert!(memory.by_id(9.into()).is_some_and(|known| known.is_final()));
        assert!(memory.remember(accepted()).is_final());
    }
}
