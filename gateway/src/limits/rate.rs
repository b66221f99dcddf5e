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
    /// In the long run.
    pub per_second: NonZeroU32,
    /// At once.
    pub burst: NonZeroU32,
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
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
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
        Allowance { limit, remaining, reset_s: missing.div_ceil(self.rate.per_second.get()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(keys_max: usize) -> RateLimit<u64> {
        let number = |n| NonZeroU32::new(n).expect("not zero");
        RateLimit::new("test", Rate { per_second: number(1), burst: number(3) }, keys_max)
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
    fn keys_beyond_the_cap_share_a_limiter_and_known_ones_do_not() {
        let limit = limit(0);
        let passed = (0..10_000).filter(|key| limit.check(key).is_ok()).count();
        // One shared limiter per shard, of three at once.
        assert!(passed <= 3 * super::super::store::SHARDS, "{passed}");
        assert_eq!(limit.limiter.len(), 0);
    }
}
