//! What is told of the invariants: how many contradictions of each, and which, once.

use std::collections::{BTreeMap, BTreeSet};

use ledger::audit::Violation;

/// Every invariant that is checked, so that a clean one shows as 0 and not as absent.
pub(super) const CHECKED: [&str; 7] = ["I1", "I2", "I5", "I6", "I9", "I11", "N1"];
/// Violations that are logged in full at once.
const LOGGED_MAX: usize = 20;

type Counts = BTreeMap<&'static str, u32>;

/// By invariant, how many violations are known; `None` where nothing is known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown(BTreeMap<&'static str, Option<u32>>);

impl Shown {
    /// Violations of this invariant that are known; `None` until a pass has shown that it holds.
    pub fn of(&self, invariant: &str) -> Option<u32> {
        self.0.get(invariant).copied().flatten()
    }

    pub(super) fn set(&self) {
        for (invariant, count) in &self.0 {
            let value = count.map_or(f64::NAN, f64::from);
            metrics::gauge!("slotrush_violations", "invariant" => *invariant).set(value);
        }
    }
}

/// What was found. A violation is told as soon as its part is judged, and stays until a later pass
/// has come to its end without it; an invariant is called clean only after a whole pass.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// Of the last whole pass, if there was one.
    whole: Option<Counts>,
    /// Of the pass that is under way.
    so_far: Counts,
    leaks: Counts,
    known: BTreeSet<(&'static str, String)>,
}

impl Board {
    /// Notes what the pass under way has found so far, and what leaks now.
    pub(super) fn note(&mut self, found: &[Violation], leaks: &[Violation], is_done: bool) {
        self.log(found, leaks, is_done);
        self.leaks = counts(leaks);
        self.so_far = counts(found);
        if is_done {
            self.whole = Some(std::mem::take(&mut self.so_far));
        }
    }

    pub(super) fn shown(&self) -> Shown {
        let of = |counts: &Counts, name: &str| counts.get(name).copied().unwrap_or(0);
        let shown = |name: &'static str| {
            let now = of(&self.so_far, name);
            // The same violation, seen in two passes, is one.
            let of_parts = self.whole.as_ref().map(|whole| of(whole, name).max(now));
            let of_parts = of_parts.or((now > 0).then_some(now));
            let leaks = of(&self.leaks, name);
            let all = of_parts.map(|count| count.saturating_add(leaks));
            (name, all.or((leaks > 0).then_some(leaks)))
        };
        Shown(CHECKED.into_iter().map(shown).collect())
    }

    /// Logs what is new or gone.
    fn log(&mut self, found: &[Violation], leaks: &[Violation], is_done: bool) {
        let named = |v: &Violation| (v.invariant, v.detail.clone());
        let now: BTreeSet<_> = found.iter().chain(leaks).map(named).collect();
        for (invariant, detail) in now.difference(&self.known).take(LOGGED_MAX) {
            tracing::error!(invariant, detail, "an invariant is broken");
        }
        if is_done {
            if now.is_empty() && !self.known.is_empty() {
                tracing::info!("every invariant holds again");
            }
            self.known = now;
        } else {
            self.known.extend(now);
        }
    }
}

fn counts(violations: &[Violation]) -> Counts {
    let mut counts = Counts::new();
    for violation in violations {
        *counts.entry(violation.invariant).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(invariant: &'static str) -> Violation {
        Violation { invariant, detail: String::new() }
    }

    #[test]
    fn nothing_is_called_clean_before_a_whole_pass_and_what_is_broken_is_told_at_once() {
        let mut board = Board::default();
        assert_eq!(board.shown().of("I1"), None);
        board.note(&[broken("I1")], &[], false);
        assert_eq!(board.shown().of("I1"), Some(1));
        assert_eq!(board.shown().of("I2"), None);
        board.note(&[broken("I1")], &[], true);
        assert_eq!(board.shown().of("I1"), Some(1));
        assert_eq!(board.shown().of("I2"), Some(0));
    }

    #[test]
    fn what_was_found_stays_until_a_whole_pass_is_without_it() {
        let mut board = Board::default();
        board.note(&[broken("I9"), broken("I9")], &[], true);
        board.note(&[], &[], false);
        assert_eq!(board.shown().of("I9"), Some(2), "its part was not judged again yet");
        board.note(&[broken("I9")], &[], false);
        assert_eq!(board.shown().of("I9"), Some(2), "one that is seen again is not another one");
        board.note(&[broken("I9")], &[], true);
        assert_eq!(board.shown().of("I9"), Some(1));
        board.note(&[], &[], true);
        assert_eq!(board.shown().of("I9"), Some(0));
    }

    #[test]
    fn leaks_are_told_and_gone_as_they_are_seen() {
        let mut board = Board::default();
        board.note(&[], &[broken("I6")], false);
        assert_eq!(board.shown().of("I6"), Some(1));
        board.note(&[broken("I6")], &[broken("I6")], true);
        assert_eq!(board.shown().of("I6"), Some(2));
        board.note(&[], &[], false);
        assert_eq!(board.shown().of("I6"), Some(1));
    }
}
