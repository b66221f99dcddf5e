//! One rate limit over many keys.

use std::hash::Hash;
use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::{Quota, RateLimiter};

use super::Allowance;
use super::store::BoundedStore;
use crate::problem::{Code, Problem};

/// How much a key may ask.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// In the long run, within `period`.
    pub count: NonZeroU32,
    /// How long that is.
    pub period: Period,
    /// At once.
    pub burst: NonZeroU32,
}

/// What a rate counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// Requests per second.
    Second,
    /// Requests per minute.
    Minute,
}

impl Period {
    const fn seconds(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
        }
    }
}

type Limiter<K> = RateLimiter<K, BoundedStore<K>, DefaultClock, StateInformationMiddleware>;

/// A rate limit per key.
#[derive(Debug)]
pub struct RateLimit<K: Hash + Eq + Clone> {
    name: &'static str,
    rate: Rate,
    clock: DefaultClock,
    limiter: Limiter<K>,
}

impl<K: Hash + Eq + Clone + std::fmt::Debug> RateLimit<K> {
    /// Starts with every key at zero; at most `keys_max` keys are judged each by itself.
    pub fn new(name: &'static str, rate: Rate, keys_max: usize) -> Self {
        let quota = match rate.period {
            Period::Second => Quota::per_second(rate.count),
            Period::Minute => Quota::per_minute(rate.count),
        };
        let quota = quota.allow_burst(rate.burst);
        let clock = DefaultClock::default();
        let limiter = Limiter::new(quota, BoundedStore::new(keys_max), clock.clone());
        Self { name, rate, clock, limiter }
    }

    /// Counts a request of `key`.
    pub fn check(&self, key: &K) -> Result<Allowance, Problem> {
        match self.limiter.check_key(key) {
            Ok(state) => Ok(self.allowance(state.remaining_burst_capacity())),
            Err(refused) => {
                metrics::counter!("slotrush_rate_limited_total", "limit" => self.name).increment(1);
                let wait = refused.wait_time_from(self.clock.now());
                let seconds = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
                Err(Problem::new(Code::RateLimited)
                    .with_retry_after(seconds)
                    .with_limit(self.name)
                    .with_allowance(self.allowance(0)))
            }
        }
    }

    /// Forgets the keys that are back at zero.
    pub fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
        let keys = u32::try_from(self.limiter.len()).unwrap_or(u32::MAX);
        metrics::gauge!("slotrush_limiter_keys", "limit" => self.name).set(keys);
    }

    fn allowance(&self, remaining: u32) -> Allowance {
        let limit = self.rate.burst.get();
        let missing = limit.saturating_sub(remaining);
        let reset_s =
            missing.saturating_mul(self.rate.period.seconds()).div_ceil(self.rate.count.get());
        Allowance { limit, remaining, reset_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(keys_max: usize) -> RateLimit<u64> {
        let number = |n| NonZeroU32::new(n).expect("not zero");
        let rate = Rate { count: number(1), period: Period::Second, burst: number(3) };
        RateLimit::new("test", rate, keys_max)
    }

    #[test]
    fn a_burst_passes_and_then_the_key_waits_alone() {
        let limit = limit(1_000);
        let left: Vec<_> =
            (0..3).map(|_| limit.check(&1).map(|allowance| allowance.remaining)).collect();
        assert_eq!(left, [Ok(2), Ok(1), Ok(0)]);
        assert_eq!(limit.check(&1).map_err(|problem| problem.code()), Err(Code::RateLimited));
        assert!(limit.check(&2).is_ok());
    }

    #[test]
    fn a_rate_by_the_minute_says_when_to_come_back() {
        let number = |n| NonZeroU32::new(n).expect("not zero");
        let rate = Rate { count: number(2), period: Period::Minute, burst: number(3) };
        let limit = RateLimit::new("test", rate, 1_000);
        let resets: Vec<_> =
            (0..3).map(|_| limit.check(&1).map(|allowance| allowance.reset_s)).collect();
        assert_eq!(resets, [Ok(30), Ok(60), Ok(90)]);
        assert_eq!(limit.check(&1).map_err(|problem| problem.code()), Err(Code::RateLimited));
    }

    #[test]
    fn keys_beyond_the_cap_share_a_limiter_and_known_ones_do_not() {
        let limit = limit(0);
        let passed = (0..10_000).filter(|key| limit.check(key).is_ok()).count();
        // One shared limiter per shard, of three at once.
        assert!(passed <= 3 * super::super::store::SHARDS, "{passed}");
        assert_eq!(limit.limiter.len(), 0);
    }
}
