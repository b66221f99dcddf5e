//! What patients hold, as PostgreSQL tells it: who is over a limit, and who must not be answered
//! from memory because an earlier answer stands.
//!
//! All advisory: it may be half a second old, and the database has the last word.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ahash::HashMap;
use booking::rules::Held;
use booking::{Booking, BookingId, DepartmentId, HospitalId, PatientId, State};
use ledger::booking_row::Change;

use super::Wish;
use super::facts::Facts;

/// Bookings remembered at most; further ones are not known here.
const BOOKINGS_MAX: usize = 500_000;

#[derive(Clone, Debug)]
struct Entry {
    booking: Booking,
    hospital: HospitalId,
    department: DepartmentId,
    day: i32,
    is_live: bool,
}

/// What memory says of a patient's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is in the way.
    Free,
    /// The same key and wish came before.
    Replay(BookingId),
    /// The same key came before with another wish.
    KeyReused,
    /// A live booking in this session, under another key.
    AlreadyBooked,
    /// A limit of the hospital is reached: its name.
    LimitReached(&'static str),
}

/// Bookings by patient.
#[derive(Debug, Default)]
pub struct HeldByPatient {
    entries: RwLock<Entries>,
    is_read: AtomicBool,
}

#[derive(Debug, Default)]
struct Entries {
    patients: HashMap<PatientId, Vec<Entry>>,
    len: usize,
}

impl HeldByPatient {
    /// Tells whether the patient has, or lately had, any booking.
    pub fn knows(&self, patient: PatientId) -> bool {
        self.read().patients.contains_key(&patient)
    }

    /// Judges a wish by the row that holds its key; `None` if there is none. Rejected rows are not
    /// followed, so a superseded one never speaks for its key.
    pub fn by_key(&self, wish: &Wish) -> Option<Standing> {
        let entries = self.read();
        let mut held = entries.patients.get(&wish.patient)?.iter().map(|entry| &entry.booking);
        let first =
            held.find(|booking| booking.key == wish.key && booking.account == wish.account)?;
        Some(wish.repeats(first))
    }

    /// Judges a wish whose key is new. `facts` gives those of its session, if known; most patients hold
    /// nothing, and nobody asks for them.
    pub fn judge(&self, wish: &Wish, facts: impl FnOnce() -> Option<Arc<Facts>>) -> Standing {
        let entries = self.read();
        let Some(held) = entries.patients.get(&wish.patient) else { return Standing::Free };
        let session = wish.slot.session();
        let mut live = held.iter().filter(|entry| entry.is_live);
        if live.any(|entry| entry.booking.slot.session() == session) {
            return Standing::AlreadyBooked;
        }
        facts().map_or(Standing::Free, |facts| over_limit(held, &facts))
    }

    /// Returns a patient's live bookings, as far as known.
    pub fn live(&self, patient: PatientId) -> Vec<BookingId> {
        let entries = self.read();
        let held = entries.patients.get(&patient).into_iter().flatten();
        held.filter(|entry| entry.is_live).map(|entry| entry.booking.id).collect()
    }

    /// Notes that a booking is live no more.
    pub fn note_cancelled(&self, patient: PatientId, id: BookingId) {
        let mut entries = self.write();
        let held = entries.patients.get_mut(&patient).into_iter().flatten();
        held.filter(|entry| entry.booking.id == id).for_each(|entry| entry.is_live = false);
    }

    /// Tells whether the ledger has been read at all. Before that, whoever has a place looks like
    /// everybody else, and a repeated request could be refused though it was granted.
    pub fn is_read(&self) -> bool {
        self.is_read.load(Ordering::Acquire)
    }

    /// Notes that the whole ledger was read once.
    pub fn set_read(&self) {
        self.is_read.store(true, Ordering::Release);
    }

    /// Forgets the bookings of sessions before a date: nobody books there any more.
    pub fn forget_before(&self, day: i32) {
        let mut entries = self.write();
        entries.patients.retain(|_, held| {
            held.retain(|entry| entry.day >= day);
            !held.is_empty()
        });
        entries.len = entries.patients.values().map(Vec::len).sum();
    }

    /// Notes what changed. A row seen twice counts once; a rejected one gives its patient nothing.
    pub fn learn(&self, changes: &[Change]) {
        let mut entries = self.write();
        for Change { row, hospital, department, day } in changes {
            if row.state == State::Rejected {
                continue;
            }
            let is_full = entries.len >= BOOKINGS_MAX;
            let held = entries.patients.entry(row.booking.patient).or_default();
            if let Some(entry) = held.iter_mut().find(|entry| entry.booking.id == row.booking.id) {
                entry.is_live = row.state.is_live();
            } else if !is_full {
                held.push(Entry {
                    booking: row.booking.clone(),
                    hospital: *hospital,
                    department: *department,
                    day: *day,
                    is_live: row.state.is_live(),
                });
                entries.len += 1;
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn over_limit(held: &[Entry], facts: &Facts) -> Standing {
    let count = |is_counted: &dyn Fn(&Entry) -> bool| {
        let live = held.iter().filter(|entry| entry.is_live && entry.hospital == facts.hospital);
        u16::try_from(live.filter(|entry| is_counted(entry)).count()).unwrap_or(u16::MAX)
    };
    let counted = Held {
        day: count(&|entry| entry.day == facts.day),
        department_day: count(&|entry| {
            entry.day == facts.day && entry.department == facts.department
        }),
        week: count(&|entry| entry.day.abs_diff(facts.day) <= 6),
    };
    let limits = facts.limits.get();
    if !limits.is_reached(counted) {
        return Standing::Free;
    }
    let is_full = |held: u16, max: Option<u16>| max.is_some_and(|max| held >= max);
    Standing::LimitReached(if is_full(counted.day, limits.per_day_max) {
        "per_day_max"
    } else if is_full(counted.department_day, limits.per_department_day_max) {
        "per_department_day_max"
    } else {
        "per_week_max"
    })
}

#[cfg(test)]
mod tests {
    use booking::rules::Limits;
    use booking::{AccountId, Digest, Epoch, SessionId, SlotId, UnixMs};
    use ledger::booking_row::BookingRow;

    use super::*;

    fn wish(session: i64, key: &str) -> Wish {
        let (slot, patient) = (SlotId::of(SessionId::from(session), 0), PatientId::from(1));
        let account = AccountId::from(1);
        Wish::new(account, slot, patient, Digest::of_key(key))
    }

    fn held(id: i64, session: i64, day: i32, key: &str) -> Change {
        let row = BookingRow {
            booking: wish(session, key).booking(BookingId::from(id), Epoch(1), UnixMs(0)),
            state: State::Booked,
            reason: None,
            number: Some(1),
            version: 1,
            persisted_at: UnixMs(id),
            changed_at: UnixMs(id),
        };
        let (hospital, department) = (HospitalId::from(1), DepartmentId::from(1));
        Change { row, hospital, department, day }
    }

    fn facts(day: i32) -> Facts {
        let limits =
            Limits { per_day_max: Some(2), per_department_day_max: None, per_week_max: Some(3) };
        let (hospital, department) = (HospitalId::from(1), DepartmentId::from(1));
        let zone = jiff::tz::TimeZone::UTC;
        let limits = Arc::new(limits.into());
        Facts { hospital, department, day, limits, zone, starts: Vec::new() }
    }

    fn learnt(changes: &[Change]) -> HeldByPatient {
        let known = HeldByPatient::default();
        known.learn(changes);
        known
    }

    #[test]
    fn a_key_keeps_its_meaning_even_after_a_cancel() {
        let known = learnt(&[held(9, 1, 0, "k")]);
        known.note_cancelled(PatientId::from(1), BookingId::from(9));
        assert_eq!(known.by_key(&wish(1, "k")), Some(Standing::Replay(BookingId::from(9))));
        assert_eq!(known.by_key(&wish(2, "k")), Some(Standing::KeyReused));
        assert_eq!(known.by_key(&wish(1, "other")), None);
        assert_eq!(known.judge(&wish(1, "other"), || None), Standing::Free);
    }

    #[test]
    fn a_second_wish_in_the_session_is_already_booked() {
        let known = learnt(&[held(9, 1, 0, "k")]);
        assert_eq!(known.judge(&wish(1, "other"), || None), Standing::AlreadyBooked);
        assert_eq!(known.judge(&wish(2, "other"), || None), Standing::Free);
    }

    #[test]
    fn limits_count_the_date_and_six_days_around_it() {
        let known = learnt(&[held(1, 1, 10, "a"), held(2, 2, 10, "b"), held(3, 3, 16, "c")]);
        let judged = |day| known.judge(&wish(7, "new"), || Some(Arc::new(facts(day))));
        assert_eq!(judged(10), Standing::LimitReached("per_day_max"));
        assert_eq!(judged(11), Standing::LimitReached("per_week_max"));
        assert_eq!(judged(17), Standing::Free);
        assert_eq!(judged(3), Standing::Free);
    }

    #[test]
    fn a_row_seen_twice_counts_once() {
        let known = learnt(&[held(1, 1, 10, "a"), held(1, 1, 10, "a")]);
        assert_eq!(known.read().len, 1);
    }

    #[test]
    fn a_rejected_row_gives_its_patient_nothing() {
        let mut rejected = held(1, 1, 10, "a");
        rejected.row.state = State::Rejected;
        assert!(!learnt(&[rejected]).knows(PatientId::from(1)));
    }
}
