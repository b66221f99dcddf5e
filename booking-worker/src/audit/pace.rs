//! How long the audit rests between its parts.

use std::time::Duration;

/// Work that is done without a rest.
const AT_ONCE: Duration = Duration::from_millis(10);
/// How much longer than its share asks for the audit rests at most.
const LONGER_MAX: f64 = 4.0;

/// Keeps the audit to its share of the time.
#[derive(Debug)]
pub(super) struct Pace {
    every: Duration,
    share_percent: u8,
    worked: Duration,
}

impl Pace {
    /// Begins a pass `every` so often, and works for `share_percent` of the time while one lasts.
    pub(super) const fn new(every: Duration, share_percent: u8) -> Self {
        Self { every, share_percent, worked: Duration::ZERO }
    }

    /// How long to rest after a part that took so long.
    ///
    /// Work that lasts twice as long at one go keeps twice as many waiting, each twice as long, so the rest
    /// after it is four times as long: what takes long is a session with many thousands of bookings, which
    /// can't be judged in two parts, or any on a busy machine. But never longer than between two passes: of
    /// a part that takes seconds most were spent waiting.
    pub(super) fn after(&mut self, took: Duration, is_done: bool) -> Duration {
        self.worked += took;
        if !is_done && self.worked < AT_ONCE {
            return Duration::ZERO;
        }
        let worked = std::mem::take(&mut self.worked);
        if is_done {
            return self.every;
        }
        let longer = worked.div_duration_f64(AT_ONCE).clamp(1.0, LONGER_MAX);
        let share = f64::from(self.share_percent.clamp(1, 100));
        worked.mul_f64(longer * (100.0 - share) / share).min(self.every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(10);

    #[test]
    fn few_slots_are_audited_at_once_and_then_as_often_as_was_wanted() {
        let mut pace = Pace::new(EVERY, 2);
        for _ in 0..9 {
            assert_eq!(pace.after(Duration::from_millis(1), false), Duration::ZERO);
        }
        assert_eq!(pace.after(Duration::from_millis(5), true), EVERY);
    }

    #[test]
    fn many_slots_take_no_more_than_the_share() {
        let mut pace = Pace::new(EVERY, 2);
        let (mut worked, mut rested) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..1_000 {
            let took = Duration::from_millis(5);
            worked += took;
            rested += pace.after(took, false);
        }
        assert_eq!(worked * 49, rested);
        let mut all = Pace::new(EVERY, 100);
        assert_eq!(all.after(Duration::from_secs(5), false), Duration::ZERO);
    }

    #[test]
    fn what_takes_twice_as_long_is_followed_by_four_times_the_rest() {
        let after = |ms| Pace::new(EVERY * 100, 2).after(Duration::from_millis(ms), false);
        assert_eq!(after(20), after(10) * 4);
        assert_eq!(
            after(400),
            after(40) * 10,
            "and no less than a quarter of the share in the end"
        );
    }

    #[test]
    fn a_part_that_took_long_is_not_followed_by_a_rest_without_end() {
        assert_eq!(Pace::new(EVERY, 2).after(Duration::from_secs(5), false), EVERY);
    }
}
