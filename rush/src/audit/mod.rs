//! The audit: every invariant that can be checked from outside, read from PostgreSQL, Redis and
//! RabbitMQ, and held against what the crowd was told.
//!
//! [`Probe`] looks, [`judge`] decides; the second is a pure function, so that its rules are tested
//! on made-up histories.

mod answers;
mod case;
mod order;
mod places;
mod probe;

use std::fmt::Write as _;

use booking::UnixMs;

pub use probe::{Evidence, Places, Probe, Stillness};

use crate::history::{History, Plan};
use case::Case;

/// The most violations of one invariant told in full.
const TOLD_MAX: usize = 8;

/// One invariant and what was found to break it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name in the documents.
    pub name: &'static str,
    /// What it promises.
    pub promise: &'static str,
    /// What breaks it; empty when it holds. Without personal data.
    pub broken_by: Vec<String>,
}

/// What the audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Places of the release.
    pub places: u32,
    /// Live appointments of the release.
    pub booked: u64,
    /// Live appointments beyond a slot's capacity.
    pub oversold: u64,
    /// Ids answered "queued" that have no row.
    pub lost: u64,
    /// Live appointments beyond the first of one patient in one session, or of one key.
    pub duplicated: u64,
    /// Places that are neither booked, nor for sale, nor free.
    pub leaked: u64,
    /// When the last booking became durable.
    pub last_persisted_at: Option<UnixMs>,
    /// Every invariant that was checked.
    pub checks: Vec<Check>,
}

impl Audit {
    /// Returns a line per violation, led by the invariant's name.
    pub fn violations(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for check in &self.checks {
            for found in check.broken_by.iter().take(TOLD_MAX) {
                lines.push(format!("{}: {found}", check.name));
            }
            if let Some(more) = check.broken_by.len().checked_sub(TOLD_MAX).filter(|n| *n > 0) {
                lines.push(format!("{}: and {more} more", check.name));
            }
        }
        lines
    }

    /// Writes a line per invariant for a person.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for check in &self.checks {
            let mark = if check.broken_by.is_empty() { '✔' } else { '✘' };
            let _infallible = writeln!(text, "  {mark} {:<4} {}", check.name, check.promise);
            for found in check.broken_by.iter().take(TOLD_MAX) {
                let _infallible = writeln!(text, "         {found}");
            }
            if check.broken_by.len() > TOLD_MAX {
                let more = check.broken_by.len() - TOLD_MAX;
                let _infallible = writeln!(text, "         and {more} more");
            }
        }
        text
    }
}

/// Holds what was found against what was promised.
pub fn judge(plan: &Plan, history: &History, evidence: &Evidence) -> Audit {
    let case = Case::new(plan, history, evidence);
    let check = |name, promise, broken_by| Check { name, promise, broken_by };
    let ledger = |name: &str| -> Vec<String> {
        let found = evidence.ledger.iter().filter(|found| found.invariant == name);
        found.map(|found| found.detail.clone()).collect()
    };
    let both = |name: &str, mut ours: Vec<String>| {
        ours.extend(ledger(name));
        ours
    };
    let lost = answers::lost(&case);
    let mut checks = vec![
        check("I1", "no slot is oversold", both("I1", places::oversold(&case).1)),
        check("I2", "what is set aside adds up", both("I2", places::escrow(&case))),
        check("I6", "no place has leaked, none is left while one was wanted", {
            let mut found = both("I6", places::leaks(&case).1);
            found.extend(places::unsold(&case));
            found
        }),
        check("I11", "Redis granted = left + sold", places::conservation(&case)),
        check("I5", "one row per booking, one appointment per patient and session", {
            both("I5", places::duplicates(&case).1)
        }),
        check("I9", "no epoch consumed more than it was granted", ledger("I9")),
        check("L1", "queues and outboxes came to rest, nothing is parked", places::restless(&case)),
    ];
    if !history.events.is_empty() {
        checks.extend([
            check("I3", "every booking answered \"queued\" has its final row", lost.clone()),
            check("I4", "none of them was turned down for capacity or lateness", {
                answers::reneged(&case)
            }),
            check("I7", "no appointment for a refused attempt, or for one nobody made", {
                answers::phantoms(&case)
            }),
            check("I8", "one key, one answer", answers::keys(&case)),
            check("I10", "no answer was contradicted later", {
                let mut found = answers::contradictions(&case);
                found.extend(order::forgetful(&case));
                found
            }),
            check("API", "every answer is in the contract", answers::strange(&case)),
        ]);
    }
    checks.extend(unnamed(evidence));
    Audit {
        places: plan.places(),
        booked: case.live().count() as u64,
        oversold: places::oversold(&case).0,
        lost: lost.len() as u64,
        duplicated: places::duplicates(&case).0,
        leaked: places::leaks(&case).0,
        last_persisted_at: case.rows.iter().map(|row| row.persisted_at).max(),
        checks,
    }
}

/// Keeps violations of the ledger's own audit that no check above is named for.
fn unnamed(evidence: &Evidence) -> Option<Check> {
    let named = ["I1", "I2", "I5", "I6", "I9"];
    let others = evidence.ledger.iter().filter(|found| !named.contains(&found.invariant));
    let broken_by: Vec<_> =
        others.map(|found| format!("{}: {}", found.invariant, found.detail)).collect();
    let promise = "the ledger's own audit finds nothing else";
    (!broken_by.is_empty()).then_some(Check { name: "DB", promise, broken_by })
}

#[cfg(test)]
mod tests;
