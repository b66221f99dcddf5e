//! How long something has not worked, as a gauge.

use std::time::{Duration, Instant};

/// Shows as `slotrush_interrupted_seconds{part}` for how long a part has not worked without a break:
/// 0 while it does.
#[derive(Clone, Debug)]
pub struct Interruption {
    part: String,
    since: Option<Instant>,
}

impl Interruption {
    /// Follows a part of this name, which works for all that is known.
    pub fn of(part: impl Into<String>) -> Self {
        Self { part: part.into(), since: None }
    }

    /// Notes whether the part works now.
    pub fn note(&mut self, works: bool) {
        let lasts = self.lasts(works, Instant::now());
        metrics::gauge!("slotrush_interrupted_seconds", "part" => self.part.clone())
            .set(lasts.as_secs_f64());
    }

    fn lasts(&mut self, works: bool, now: Instant) -> Duration {
        if works {
            self.since = None;
            return Duration::ZERO;
        }
        now.saturating_duration_since(*self.since.get_or_insert(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_lasts_from_its_first_sign_until_the_part_works_again() {
        let mut redis = Interruption::of("redis");
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(redis.lasts(true, at(0)), Duration::ZERO);
        assert_eq!(redis.lasts(false, at(1)), Duration::ZERO);
        assert_eq!(redis.lasts(false, at(4)), Duration::from_secs(3));
        assert_eq!(redis.lasts(true, at(5)), Duration::ZERO);
        assert_eq!(redis.lasts(false, at(9)), Duration::ZERO);
    }
}
