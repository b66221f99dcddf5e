//! Invariants of answers: what the crowd was told, held against the rows and against itself.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use booking::{BookingId, Reason, State};

use crate::answer::Answer;
use crate::history::{Ask, Event};

use super::case::Case;

/// I3: promised ids without a row.
pub(super) fn lost(case: &Case) -> Vec<String> {
    let missing = case.promised.iter().filter(|id| !case.row_of.contains_key(id));
    missing.map(|id| format!("booking {id} was answered \"queued\" and has no row")).collect()
}

/// I4: promised ids turned down for a reason that breaks the promise.
pub(super) fn reneged(case: &Case) -> Vec<String> {
    let rows = case.promised.iter().filter_map(|id| case.row_of.get(id));
    rows.filter_map(|row| row.reason.map(|reason| (row.booking.id, reason)))
        .filter(|(_, reason)| match reason {
            Reason::AlreadyBooked
            | Reason::LimitReached
            | Reason::Superseded
            | Reason::Withdrawn => false,
            Reason::Late | Reason::Lapsed => true,
        })
        .map(|(id, reason)| format!("booking {id} was answered \"queued\" and rejected: {reason}"))
        .collect()
}

/// I7: live rows that nobody asked for, or whose every attempt was refused.
pub(super) fn phantoms(case: &Case) -> Vec<String> {
    let mut found = Vec::new();
    for row in case.live() {
        let id = row.booking.id;
        if !case.crowd.contains(&row.booking.patient) {
            found.push(format!("booking {id} is of a patient outside the crowd"));
            continue;
        }
        let attempts = case.attempts.get(&(row.booking.patient, row.booking.key));
        let mut of_slot = attempts
            .into_iter()
            .flatten()
            .filter(|(slot, _)| *slot == row.booking.slot)
            .map(|(_, event)| *event)
            .peekable();
        if of_slot.peek().is_none() {
            found.push(format!("booking {id} was asked for by nobody"));
        } else if of_slot.all(is_definite_refusal) {
            found.push(format!("booking {id} is live, and every attempt at it was refused"));
        }
    }
    found
}

fn is_definite_refusal(event: &Event) -> bool {
    match &event.answer {
        Answer::Refused { .. } | Answer::NotFound | Answer::NotSent => true,
        Answer::Busy { is_definite, .. } => *is_definite,
        // A 4xx outside the contract is a refusal, a 5xx may have run.
        Answer::Strange { http, .. } => *http < 500,
        Answer::Booking { .. } | Answer::Lost => false,
    }
}

/// I8: a key's later answers are its first one.
pub(super) fn keys(case: &Case) -> Vec<String> {
    let mut found = Vec::new();
    for attempts in case.attempts.values() {
        let mut ids = BTreeSet::new();
        let mut given: Option<&Event> = None;
        for (_, event) in attempts {
            match (&event.answer, given) {
                (Answer::Booking { id, .. }, first) => {
                    ids.insert(*id);
                    given = first.or(Some(*event));
                }
                (Answer::Refused { code, .. }, Some(first))
                    if event.invoked_at > first.answered_at =>
                {
                    found.push(format!("a key was given a booking and then refused: {code}"));
                }
                _ => {}
            }
        }
        if ids.len() > 1 && !(case.history.redis_was_lost && is_one_appointment(case, &ids)) {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            found.push(format!("one key was given the bookings {}", ids.join(", ")));
        }
    }
    found
}

/// The one way a key may stand for two ids: Redis was lost before the first had its row. Then both
/// have ended, and at most one of them with a place.
fn is_one_appointment(case: &Case, ids: &BTreeSet<BookingId>) -> bool {
    let rows: Vec<_> = ids.iter().filter_map(|id| case.row_of.get(id)).collect();
    rows.len() == ids.len() && rows.iter().filter(|row| row.state != State::Rejected).count() <= 1
}

/// I10: final answers that differ from another, from the row, were followed by "not found", or came
/// in an order that is no legal transition.
pub(super) fn contradictions(case: &Case) -> Vec<String> {
    let mut said: BTreeMap<BookingId, HashSet<State>> = BTreeMap::new();
    let mut found = Vec::new();
    for event in &case.history.events {
        if let Answer::Booking { id, status, .. } = event.answer {
            let states = said.entry(id).or_default();
            states.extend(status.state());
        }
        if let (Ask::Status { id }, Answer::NotFound) = (event.ask, &event.answer) {
            found.push(format!("booking {id} was given and then not found"));
        }
    }
    for (id, mut states) in said {
        let heard = states.len();
        if let Some(row) = case.row_of.get(&id) {
            states.insert(row.state);
        } else if heard > 0 {
            found.push(format!("booking {id} was answered final and has no row"));
        }
        let cancelled = HashSet::from([State::Booked, State::Cancelled]);
        if states.len() > 1 && states != cancelled {
            let mut words: Vec<_> = states.iter().map(|state| state.as_str()).collect();
            words.sort_unstable();
            found.push(format!("booking {id} was {}", words.join(" and ")));
        }
    }
    found.extend(revived(case));
    found
}

/// Bookings that were told cancelled, and later, surely later, booked.
fn revived(case: &Case) -> Vec<String> {
    let told = |state: State| {
        case.history.events.iter().filter_map(move |event| match event.answer {
            Answer::Booking { id, status, .. } if status.state() == Some(state) => {
                Some((id, event))
            }
            _ => None,
        })
    };
    let mut cancelled_at = BTreeMap::new();
    for (id, event) in told(State::Cancelled) {
        let first = cancelled_at.entry(id).or_insert(event.answered_at);
        *first = event.answered_at.min(*first);
    }
    let is_late = |(id, event): &(BookingId, &Event)| {
        cancelled_at.get(id).is_some_and(|cancelled| event.invoked_at > *cancelled)
    };
    let revived: BTreeSet<BookingId> =
        told(State::Booked).filter(is_late).map(|(id, _)| id).collect();
    revived.iter().map(|id| format!("booking {id} was cancelled and then booked")).collect()
}

/// Answers the API's contract does not allow, by kind.
pub(super) fn strange(case: &Case) -> Vec<String> {
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    for event in &case.history.events {
        let kind = match &event.answer {
            Answer::Strange { http, code } => format!("{http} {code}"),
            Answer::Busy { code, retry_after_s: None, .. } => format!("{code} without Retry-After"),
            Answer::Refused { code, opens_at: None } if code == "release_not_open" => {
                "release_not_open without opens_at".to_owned()
            }
            _ => continue,
        };
        *kinds.entry(kind).or_default() += 1;
    }
    kinds.into_iter().map(|(kind, count)| format!("{count} times {kind}")).collect()
}
