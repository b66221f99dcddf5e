//! How often it is asked whether there is quota to move.

use std::time::{Duration, Instant};

use ledger::epoch::Uneven;

use super::Error;
use super::partition::{Current, PartitionReconciler};

/// A look that found nothing is followed by a rest so many times as long. It takes a tenth of a
/// millisecond, so that this changes nothing; but after a release of a million slots it walks over their
/// dead rows, until they are cleared away, and would take a third of a core from the rush.
const REST_TIMES: u32 = 50;
/// The longest rest: a place that was given back is on sale again as soon.
const REST_MAX: Duration = Duration::from_secs(1);

/// When to look again.
#[derive(Debug, Default)]
pub(super) struct Looks {
    pub(super) are_paced: bool,
    due_at: Option<Instant>,
}

impl Looks {
    fn are_due(&self, now: Instant) -> bool {
        !self.are_paced || self.due_at.is_none_or(|at| now >= at)
    }

    /// Notes what a look found that began at `started` and ended `now`.
    fn note(&mut self, uneven: Uneven, started: Instant, now: Instant) {
        let found = uneven.has_free || uneven.has_excess;
        let rest = (now.saturating_duration_since(started) * REST_TIMES).min(REST_MAX);
        self.due_at = (!found).then_some(now + rest);
    }
}

impl PartitionReconciler {
    /// Asks what there is to grant or to take back: nothing, as long as it is too early to ask again.
    pub(super) async fn look(&mut self, current: &Current) -> Result<Uneven, Error> {
        let started = Instant::now();
        let is_known = self.applied.as_ref() == Some(&current.nonce);
        if is_known && !self.looks.are_due(started) {
            return Ok(Uneven { has_free: false, has_excess: false });
        }
        let uneven = self.servers.ledger.uneven(self.partition).await?;
        self.looks.note(uneven, started, Instant::now());
        Ok(uneven)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Uneven = Uneven { has_free: false, has_excess: false };

    fn after(uneven: Uneven, took_ms: u64) -> (Looks, Instant) {
        let started = Instant::now();
        let now = started + Duration::from_millis(took_ms);
        let mut looks = Looks { are_paced: true, due_at: None };
        looks.note(uneven, started, now);
        (looks, now)
    }

    #[test]
    fn a_look_that_took_long_for_nothing_is_not_repeated_soon() {
        let (looks, now) = after(NOTHING, 10);
        assert!(!looks.are_due(now + Duration::from_millis(499)));
        assert!(looks.are_due(now + Duration::from_millis(500)));
        let (looks, now) = after(NOTHING, 60_000);
        assert!(looks.are_due(now + REST_MAX), "a place that came free waits no longer");
    }

    #[test]
    fn what_was_found_is_looked_for_at_once() {
        for (has_free, has_excess) in [(true, false), (false, true)] {
            let (looks, now) = after(Uneven { has_free, has_excess }, 10);
            assert!(looks.are_due(now));
        }
    }

    #[test]
    fn a_short_look_is_taken_in_every_round() {
        let (looks, now) = after(NOTHING, 1);
        assert!(looks.are_due(now + Duration::from_millis(250)));
    }
}
