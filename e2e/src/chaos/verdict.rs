//! A round's judgement: every invariant, held against what was asked, answered and left behind.

use std::collections::{BTreeMap, BTreeSet};

use booking::{BookingId, State};
use rush::answer::{Answer, Status};
use rush::audit::{Audit, Evidence, judge};
use rush::history::{Ask, History, Plan};

use super::exceptions;
use super::fate::Fate;

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
    pub(super) forgotten: u64,
    pub(super) violations: Vec<String>,
}

/// Judges one release. `cancels` tells of each whether it was answered as done.
pub(super) fn decide(
    plan: &Plan,
    history: &History,
    cancels: &BTreeMap<BookingId, bool>,
    fate: &Fate,
    evidence: &Evidence,
) -> Verdict {
    let mut history = history.clone();
    let hasty_refusals =
        exceptions::set_hasty_refusals_aside(&mut history, fate.is_renewed, evidence);
    let forgotten = exceptions::set_forgotten_aside(&mut history, fate.lost_until, evidence);
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
        forgotten,
        violations,
    }
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
