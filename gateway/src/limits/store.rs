//! Where the limiters keep their keys: sharded, and never more than the cap.
//!
//! The store that comes with `governor` grows with every key it sees: four million IPv6 addresses
//! are 266 MiB. Here, a key that finds its shard full is judged by the shard's shared limiter.

use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ahash::RandomState;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use hashbrown::HashTable;

/// Shards of a store. Each has its own lock.
pub const SHARDS: usize = 64;

/// States of at most so many keys.
#[derive(Debug)]
pub struct BoundedStore<K> {
    hasher: RandomState,
    shards: Vec<Mutex<Shard<K>>>,
    keys_per_shard_max: usize,
}

#[derive(Debug)]
struct Shard<K> {
    keys: HashTable<(K, Nanos)>,
    shared: Option<Nanos>,
}

impl<K: Hash + Eq> BoundedStore<K> {
    /// Starts empty.
    pub fn new(keys_max: usize) -> Self {
        let shard = || Mutex::new(Shard { keys: HashTable::new(), shared: None });
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| shard()).collect(),
            keys_per_shard_max: keys_max.div_ceil(SHARDS),
        }
    }

    /// One hash is enough for the shard and its table, and the shard is not told by the bits that tell
    /// entries of one table from each other.
    fn shard(&self, key: &K) -> (u64, MutexGuard<'_, Shard<K>>) {
        let hash = self.hasher.hash_one(key);
        let at = usize::try_from((hash >> 32) % SHARDS as u64).unwrap_or(0);
        (hash, lock(&self.shards[at]))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Hash + Eq + Clone> StateStore for BoundedStore<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (hash, mut shard) = self.shard(key);
        if let Some((_, state)) = shard.keys.find_mut(hash, |(known, _)| known == key) {
            let (outcome, next) = f(Some(*state))?;
            *state = next;
            return Ok(outcome);
        }
        if shard.keys.len() >= self.keys_per_shard_max {
            let (outcome, next) = f(shard.shared)?;
            shard.shared = Some(next);
            return Ok(outcome);
        }
        let (outcome, next) = f(None)?;
        let entry = (key.clone(), next);
        shard.keys.insert_unique(hash, entry, |(known, _)| self.hasher.hash_one(known));
        Ok(outcome)
    }
}

impl<K: Hash + Eq + Clone> ShrinkableKeyedStateStore<K> for BoundedStore<K> {
    fn retain_recent(&self, drop_below: Nanos) {
        for shard in &self.shards {
            lock(shard).keys.retain(|(_, state)| *state > drop_below);
        }
    }

    fn shrink_to_fit(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            // Only when most of it is air: shrinking means moving every key.
            if shard.keys.capacity() > 64 && shard.keys.len() * 4 < shard.keys.capacity() {
                shard.keys.shrink_to_fit(|(known, _)| self.hasher.hash_one(known));
            }
        }
    }

    fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).keys.len()).sum()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
