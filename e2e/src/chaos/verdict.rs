//! A round's judgement: every invariant, held against what was asked, answered and left behind.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use booking::{BookingId, Digest, PatientId, State, UnixMs};
use rush::answer::{Answer, Status};
use rush::audit::{Audit, Evidence, judge};
use rush::history::{Ask, History, Plan};

/// How long a gateway may remember that a slot is sold out, with the time a busy machine adds.
const MEMORY_MAX_MS: u64 = 1_000;

/// What a crowd came to.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) attempts: u64,
    pub(super) booked: u64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) unexpected: u64,
    pub(super) recovered: u64,
    pub(super) oversold: u64,
    pub(super) leaked: u64,
    pub(super) hasty_refusals: u64,
    pub(super) violations: Vec<String>,
}

/// Judges one release. `cancels` tells of each whether it was answered as done.
pub(super) fn decide(
    plan: &Plan,
    history: &History,
    cancels: &BTreeMap<BookingId, bool>,
    evidence: &Evidence,
) -> Verdict {
    let mut history = history.clone();
    let hasty_refusals = set_hasty_refusals_aside(&mut history);
    let history = &history;
    let audit = judge(plan, history, evidence);
    let mut violations = audit.violations();
    violations.extend(cancelled(plan, cancels, evidence));
    let attempts = history.events.iter().filter(|event| matches!(event.ask, Ask::Book(_)));
    Verdict {
        attempts: attempts.count() as u64,
        booked: audit.booked,
        lost: audit.lost,
        duplicated: audit.duplicated,
        unexpected: phantoms(&audit),
        recovered: recovered(plan, history, evidence),
        oversold: audit.oversold,
        leaked: audit.leaked,
        hasty_refusals,
        violations,
    }
}

/// Takes out the refusals that the documents except from I8, and counts them: a place that came
/// back was sold by one gateway, and another one answered a repeat of that very request from its
/// memory of "sold out".
fn set_hasty_refusals_aside(history: &mut History) -> u64 {
    let mut given: HashMap<(PatientId, Digest), UnixMs> = HashMap::new();
    let before = history.events.len();
    history.events.retain(|event| {
        let Ask::Book(wish) = event.ask else { return true };
        let key = (event.patient, wish.key);
        match &event.answer {
            Answer::Booking { .. } => {
                given.entry(key).or_insert(event.answered_at);
                true
            }
            Answer::Refused { code, .. } if code == "slot_exhausted" => {
                let is_hasty = |at: &UnixMs| {
                    event.invoked_at > *at && event.invoked_at.since(*at) <= MEMORY_MAX_MS
                };
                !given.get(&key).is_some_and(is_hasty)
            }
            _ => true,
        }
    });
    (before - history.events.len()) as u64
}

/// I10: what was cancelled stays so, and nothing is cancelled that nobody gave back.
fn cancelled(plan: &Plan, cancels: &BTreeMap<BookingId, bool>, evidence: &Evidence) -> Vec<String> {
    let slots: BTreeSet<_> = plan.offers.iter().map(|offer| offer.slot).collect();
    let rows = evidence.rows.iter().filter(|row| slots.contains(&row.booking.slot));
    rows.filter_map(|row| {
        let id = row.booking.id;
        match (cancels.get(&id), row.state) {
            (Some(true), State::Booked | State::Rejected) => {
                Some(format!("I10: booking {id} was cancelled, and is {}", row.state.as_str()))
            }
            (None, State::Cancelled) => {
                Some(format!("I10: booking {id} is cancelled, and nobody gave it back"))
            }
            _ => None,
        }
    })
    .collect()
}

fn phantoms(audit: &Audit) -> u64 {
    let checks = audit.checks.iter().filter(|check| check.name == "I7");
    checks.map(|check| check.broken_by.len() as u64).sum()
}

/// Live appointments nobody was told of with certainty.
fn recovered(plan: &Plan, history: &History, evidence: &Evidence) -> u64 {
    let slots: BTreeSet<_> = plan.offers.iter().map(|offer| offer.slot).collect();
    let told: BTreeSet<BookingId> = history
        .events
        .iter()
        .filter(|event| matches!(event.ask, Ask::Book(_)))
        .filter_map(|event| match event.answer {
            Answer::Booking { id, status, .. } if status != Status::Pending => Some(id),
            _ => None,
        })
        .collect();
    let live = evidence.rows.iter().filter(|row| {
        row.state.is_live() && slots.contains(&row.booking.slot) && !told.contains(&row.booking.id)
    });
    live.count() as u64
}

#[cfg(test)]
mod tests {
    use booking::{ReleaseId, SessionId, SlotId};
    use rush::answer::Wish;
    use rush::history::{Event, Offer};

    use super::*;

    fn event(at_ms: i64, answer: Answer) -> Event {
        let slot = SlotId::of(SessionId::from(1), 0);
        let ask = Ask::Book(Wish { key: Digest::of_key("k"), slot });
        let (invoked_at, answered_at) = (UnixMs(at_ms), UnixMs(at_ms + 5));
        Event { patient: PatientId::from(1), ask, invoked_at, answered_at, answer }
    }

    fn queued() -> Answer {
        Answer::Booking { id: BookingId::from(7), status: Status::Queued, reason: None }
    }

    fn refused(code: &str) -> Answer {
        Answer::Refused { code: code.to_owned(), opens_at: None }
    }

    fn judged(events: Vec<Event>) -> Verdict {
        let slot = SlotId::of(SessionId::from(1), 0);
        let plan = Plan {
            release: ReleaseId::from(1),
            prepared_at: UnixMs(0),
            opens_at: UnixMs(0),
            offers: vec![Offer { slot, capacity: 1 }],
        };
        let crowd = vec![PatientId::from(1)];
        let history = History { crowd, events, redis_was_lost: true };
        decide(&plan, &history, &BTreeMap::new(), &Evidence::default())
    }

    #[test]
    fn a_promise_without_a_row_is_lost() {
        let verdict = judged(vec![event(0, queued())]);
        assert_eq!((verdict.lost, verdict.attempts), (1, 1));
        assert!(verdict.violations.iter().any(|found| found.starts_with("I3: ")));
    }

    #[test]
    fn only_sold_out_and_only_for_a_moment_is_a_hasty_refusal() {
        let breaks_i8 = |later: Event| {
            let verdict = judged(vec![event(0, queued()), later]);
            let is_broken = verdict.violations.iter().any(|found| found.starts_with("I8: "));
            (is_broken, verdict.hasty_refusals)
        };
        assert_eq!(breaks_i8(event(500, refused("slot_exhausted"))), (false, 1));
        assert_eq!(breaks_i8(event(1_500, refused("slot_exhausted"))), (true, 0));
        assert_eq!(breaks_i8(event(500, refused("already_booked"))), (true, 0));
    }
}
