//! Invariants of places: what is booked, set aside, for sale and free must add up.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use booking::{PatientId, SlotId};

use crate::answer::Answer;
use crate::history::Ask;

use super::case::Case;

/// I1: how many appointments are beyond their slot's capacity, and where.
pub(super) fn oversold(case: &Case) -> (u64, Vec<String>) {
    let mut live: BTreeMap<SlotId, u32> = BTreeMap::new();
    for row in case.live() {
        *live.entry(row.booking.slot).or_default() += 1;
    }
    let mut beyond = 0;
    let mut found = Vec::new();
    for offer in &case.plan.offers {
        let count = live.get(&offer.slot).copied().unwrap_or(0);
        if let Some(more) = count.checked_sub(offer.capacity).filter(|more| *more > 0) {
            beyond += u64::from(more);
            found.push(format!("slot {}: {count} booked, capacity {}", offer.slot, offer.capacity));
        }
    }
    (beyond, found)
}

/// I2 from outside: the rows, the counters and Redis tell of the same places.
pub(super) fn escrow(case: &Case) -> Vec<String> {
    let places = case.evidence.places;
    let mut found = Vec::new();
    let live = case.live().count() as u64;
    if places.booked != live {
        found.push(format!("booked counts {}, live rows {live}", places.booked));
    }
    if places.booked + places.escrowed > places.capacity {
        found.push(format!(
            "booked {} + set aside {} > capacity {}",
            places.booked, places.escrowed, places.capacity
        ));
    }
    if places.capacity != u64::from(case.plan.places()) {
        found.push(format!("capacity {}, prepared {}", places.capacity, case.plan.places()));
    }
    found
}

/// I6, accounting: places that nobody can ever get, and how that shows.
pub(super) fn leaks(case: &Case) -> (u64, Vec<String>) {
    let places = case.evidence.places;
    let left: u64 = case.evidence.redis.iter().map(|count| u64::from(count.left)).sum();
    let mut found: Vec<String> = case
        .evidence
        .stillness
        .unclosed
        .iter()
        .flatten()
        .map(|(partition, epoch)| format!("epoch {epoch} of partition {partition} is not closed"))
        .collect();
    let accounted = places.booked + left + places.free;
    if accounted != places.capacity {
        found.push(format!(
            "capacity {} is not booked {} + for sale {left} + free {}",
            places.capacity, places.booked, places.free
        ));
    }
    if places.escrowed != left {
        found.push(format!("{} set aside in PostgreSQL, {left} for sale", places.escrowed));
    }
    let leaked = places.capacity.abs_diff(accounted).max(places.escrowed.abs_diff(left));
    (leaked, found)
}

/// I6, demand: no place is left in a slot that somebody without a place was refused for.
pub(super) fn unsold(case: &Case) -> Vec<String> {
    let holders: BTreeSet<PatientId> = case.live().map(|row| row.booking.patient).collect();
    let mut wanted: HashMap<SlotId, u32> = HashMap::new();
    for event in &case.history.events {
        if let (Ask::Book(wish), Answer::Refused { code, .. }) = (event.ask, &event.answer)
            && code == "slot_exhausted"
            && !holders.contains(&event.patient)
        {
            *wanted.entry(wish.slot).or_default() += 1;
        }
    }
    let mut booked: HashMap<SlotId, u32> = HashMap::new();
    for row in case.live() {
        *booked.entry(row.booking.slot).or_default() += 1;
    }
    let left_over = |slot: SlotId, capacity: u32| {
        capacity.saturating_sub(booked.get(&slot).copied().unwrap_or(0))
    };
    case.plan
        .offers
        .iter()
        .filter_map(|offer| {
            let refused = wanted.get(&offer.slot)?;
            let left = left_over(offer.slot, offer.capacity);
            let slot = offer.slot;
            (left > 0).then(|| {
                format!(
                    "slot {slot}: {left} places left, {refused} told \"exhausted\" and placeless"
                )
            })
        })
        .collect()
}

/// I11: per slot, what Redis was granted is what it has left and what it sold.
pub(super) fn conservation(case: &Case) -> Vec<String> {
    let counts = case.evidence.redis.iter();
    counts
        .filter(|count| count.granted != count.left + count.sold)
        .map(|count| {
            let (slot, granted) = (count.slot, count.granted);
            format!("slot {slot}: granted {granted}, left {}, sold {}", count.left, count.sold)
        })
        .collect()
}

/// I5: appointments beyond the first of a patient in a session, or of a key.
pub(super) fn duplicates(case: &Case) -> (u64, Vec<String>) {
    let mut by_session: BTreeMap<_, u64> = BTreeMap::new();
    let mut by_key: BTreeMap<_, u64> = BTreeMap::new();
    for row in case.live() {
        let booking = &row.booking;
        *by_session.entry((booking.slot.session(), booking.patient)).or_default() += 1;
        *by_key.entry((booking.patient, booking.key)).or_default() += 1;
    }
    let mut found = Vec::new();
    let mut beyond = 0;
    for ((session, _), count) in by_session.iter().filter(|(_, count)| **count > 1) {
        beyond += count - 1;
        found.push(format!("{count} live appointments of one patient in session {session}"));
    }
    for (_, count) in by_key.iter().filter(|(_, count)| **count > 1) {
        beyond += count - 1;
        found.push(format!("{count} live appointments under one idempotency key"));
    }
    (beyond, found)
}

/// L1: what still moves, and what was set aside for a person.
pub(super) fn restless(case: &Case) -> Vec<String> {
    let stillness = &case.evidence.stillness;
    let mut found = stillness.restless();
    if stillness.parking > 0 {
        found.push(format!("{} messages in the parking queue", stillness.parking));
    }
    if case.evidence.parked > 0 {
        found.push(format!("{} parked messages", case.evidence.parked));
    }
    found
}
