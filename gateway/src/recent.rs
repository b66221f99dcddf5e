//! A map that remembers what is recent, and never more than so much.

use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::RandomState;
use hashbrown::HashTable;
use rustix::time::{ClockId, clock_gettime};

const SHARDS: usize = 16;

/// Remembers an entry for one to two times `ttl`, and at most about `entries_max` of them.
///
/// Each shard holds two generations: entries go into the younger, look-ups see both, and when the
/// younger is old or full it takes the elder's place. So forgetting costs nothing per entry. A key is hashed
/// once, for its shard and both generations: a request looks for several of them.
#[derive(Debug)]
pub struct Recent<K, V> {
    hasher: RandomState,
    shards: Vec<Mutex<Generations<K, V>>>,
    ttl: Duration,
    generation_max: usize,
}

#[derive(Debug)]
struct Generations<K, V> {
    younger: HashTable<(K, V)>,
    elder: HashTable<(K, V)>,
    /// By [`now`].
    since: Duration,
}

impl<K: Hash + Eq + Clone, V: Clone> Recent<K, V> {
    /// Starts empty.
    pub fn new(ttl: Duration, entries_max: usize) -> Self {
        let shard = || {
            let since = now();
            Mutex::new(Generations { younger: HashTable::new(), elder: HashTable::new(), since })
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
        let (hash, mut shard) = self.shard(key);
        shard.age(self.ttl, now());
        shard.find(hash, key).is_some()
    }

    fn get_at(&self, key: &K, now: Duration) -> Option<V> {
        let (hash, mut shard) = self.shard(key);
        shard.age(self.ttl, now);
        shard.find(hash, key).cloned()
    }

    /// Returns what is remembered of `key` if it will be for the whole time: who wants an entry to last
    /// need not [`Self::update`] it.
    pub fn get_younger(&self, key: &K) -> Option<V> {
        let (hash, mut shard) = self.shard(key);
        shard.age(self.ttl, now());
        find(&shard.younger, hash, key).cloned()
    }

    /// Remembers, or replaces what was remembered.
    pub fn put(&self, key: K, value: V) {
        let (hash, mut shard) = self.shard(&key);
        shard.age(self.ttl, now());
        if let Some((_, known)) = shard.younger.find_mut(hash, |(known, _)| *known == key) {
            *known = value;
        } else {
            self.insert(&mut shard, hash, key, value);
        }
    }

    /// Forgets what is remembered of `key`.
    pub fn forget(&self, key: &K) {
        self.update(key, |value| *value = None);
    }

    /// Changes what is remembered of `key`, or remembers something first; `None` forgets.
    pub fn update<R>(&self, key: &K, change: impl FnOnce(&mut Option<V>) -> R) -> R {
        let (hash, mut shard) = self.shard(key);
        shard.age(self.ttl, now());
        let elder = take(&mut shard.elder, hash, key);
        let mut value = take(&mut shard.younger, hash, key).or(elder);
        let result = change(&mut value);
        if let Some(value) = value {
            self.insert(&mut shard, hash, key.clone(), value);
        }
        result
    }

    fn insert(&self, shard: &mut Generations<K, V>, hash: u64, key: K, value: V) {
        if shard.younger.len() >= self.generation_max {
            shard.turn(now());
        }
        shard.younger.insert_unique(hash, (key, value), |(known, _)| self.hasher.hash_one(known));
    }

    fn shard(&self, key: &K) -> (u64, MutexGuard<'_, Generations<K, V>>) {
        let hash = self.hasher.hash_one(key);
        // Not by the bits that tell entries of one table from each other.
        let at = usize::try_from((hash >> 32) % SHARDS as u64).unwrap_or(0);
        (hash, self.shards[at].lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<K: Eq, V> Generations<K, V> {
    fn find(&self, hash: u64, key: &K) -> Option<&V> {
        find(&self.younger, hash, key).or_else(|| find(&self.elder, hash, key))
    }

    fn age(&mut self, ttl: Duration, now: Duration) {
        let age = now.saturating_sub(self.since);
        if age >= ttl {
            self.turn(now);
        }
        if age >= 2 * ttl {
            self.elder = HashTable::new();
        }
    }

    fn turn(&mut self, now: Duration) {
        self.elder = std::mem::take(&mut self.younger);
        self.since = now;
    }
}

fn find<'a, K: Eq, V>(entries: &'a HashTable<(K, V)>, hash: u64, key: &K) -> Option<&'a V> {
    entries.find(hash, |(known, _)| known == key).map(|(_, value)| value)
}

fn take<K: Eq, V>(entries: &mut HashTable<(K, V)>, hash: u64, key: &K) -> Option<V> {
    let entry = entries.find_entry(hash, |(known, _)| known == key).ok()?;
    Some(entry.remove().0.1)
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
