//! A map that remembers what is recent, and never more than so much.

use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::{HashMap, RandomState};
use rustix::time::{ClockId, clock_gettime};

const SHARDS: usize = 16;

/// Remembers an entry for one to two times `ttl`, and at most about `entries_max` of them.
///
/// Each shard holds two generations: entries go into the younger, look-ups see both, and when the
/// younger is old or full it takes the elder's place. So forgetting costs nothing per entry.
#[derive(Debug)]
pub struct Recent<K, V> {
    hasher: RandomState,
    shards: Vec<Mutex<Generations<K, V>>>,
    ttl: Duration,
    generation_max: usize,
}

#[derive(Debug)]
struct Generations<K, V> {
    younger: HashMap<K, V>,
    elder: HashMap<K, V>,
    /// By [`now`].
    since: Duration,
}

impl<K: Hash + Eq + Clone, V: Clone> Recent<K, V> {
    /// Starts empty.
    pub fn new(ttl: Duration, entries_max: usize) -> Self {
        let shard = || {
            let since = now();
            Mutex::new(Generations {
                younger: HashMap::default(),
                elder: HashMap::default(),
                since,
            })
        };
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| shard()).collect(),
            ttl,
            generation_max: entries_max.div_ceil(2 * SHARDS).max(1),
        }
    }

    /// Returns what is remembered of `key`.
    pub fn get(&self, key: &K) -> Option<V> {
        self.get_at(key, now())
    }

    /// Tells whether anything is remembered of `key`.
    pub fn has(&self, key: &K) -> bool {
        let mut shard = self.shard(key);
        shard.age(self.ttl, now());
        shard.younger.contains_key(key) || shard.elder.contains_key(key)
    }

    fn get_at(&self, key: &K, now: Duration) -> Option<V> {
        let mut shard = self.shard(key);
        shard.age(self.ttl, now);
        shard.younger.get(key).or_else(|| shard.elder.get(key)).cloned()
    }

    /// Returns what is remembered of `key` if it will be for the whole time: who wants an entry to last
    /// need not [`Self::update`] it.
    pub fn get_younger(&self, key: &K) -> Option<V> {
        let mut shard = self.shard(key);
        shard.age(self.ttl, now());
        shard.younger.get(key).cloned()
    }

    /// Remembers, or replaces what was remembered.
    pub fn put(&self, key: K, value: V) {
        let mut shard = self.shard(&key);
        shard.age(self.ttl, now());
        if shard.younger.len() >= self.generation_max && !shard.younger.contains_key(&key) {
            shard.turn(now());
        }
        shard.younger.insert(key, value);
    }

    /// Forgets what is remembered of `key`.
    pub fn forget(&self, key: &K) {
        self.update(key, |value| *value = None);
    }

    /// Changes what is remembered of `key`, or remembers something first; `None` forgets.
    pub fn update<R>(&self, key: &K, change: impl FnOnce(&mut Option<V>) -> R) -> R {
        let mut shard = self.shard(key);
        shard.age(self.ttl, now());
        let elder = shard.elder.remove(key);
        let mut value = shard.younger.remove(key).or(elder);
        let result = change(&mut value);
        if let Some(value) = value {
            if shard.younger.len() >= self.generation_max {
                shard.turn(now());
            }
            shard.younger.insert(key.clone(), value);
        }
        result
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, Generations<K, V>> {
        let at = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> Generations<K, V> {
    fn age(&mut self, ttl: Duration, now: Duration) {
        let age = now.saturating_sub(self.since);
        if age >= ttl {
            self.turn(now);
        }
        if age >= 2 * ttl {
            self.elder = HashMap::default();
        }
    }

    fn turn(&mut self, now: Duration) {
        self.elder = std::mem::take(&mut self.younger);
        self.since = now;
    }
}

/// The time since the machine started, good to some milliseconds: entries last for seconds at least, and a
/// request looks for several of them. A precise one reads the processor's counter each time.
fn now() -> Duration {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_lasts_its_time_and_is_then_forgotten() {
        let recent = Recent::new(Duration::from_secs(10), 1_000);
        recent.put(1, "a");
        let begun = now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(recent.get_at(&1, after(9)), Some("a"));
        assert_eq!(recent.get_at(&1, after(11)), Some("a"));
        assert_eq!(recent.get_at(&1, after(31)), None);
    }

    #[test]
    fn it_never_holds_more_than_its_bound() {
        let recent = Recent::new(Duration::from_mins(10), 1_600);
        (0..100_000).for_each(|n| recent.put(n, n));
        assert!((0..100_000).filter(|n| recent.get(n).is_some()).count() <= 1_600);
        assert_eq!(recent.get(&99_999), Some(99_999));
    }

    #[test]
    fn an_update_sees_and_replaces_what_was_there() {
        let recent = Recent::new(Duration::from_mins(10), 1_600);
        recent.put(1, 1);
        assert_eq!(recent.update(&1, |value| value.replace(2)), Some(1));
        assert_eq!(recent.get(&1), Some(2));
        recent.update(&1, |value| *value = None);
        assert_eq!(recent.get(&1), None);
    }
}
