//! Idempotency keys whose requests are on their way here.
//!
//! Until the first request under a key has its place, nothing else remembers the key. Another wish
//! under it, at the same instant, would be sold a place too, and the worker could only supersede it.

use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::HashMap;
use booking::{AccountId, Digest, PatientId, SlotId};

use super::Wish;

type Key = (AccountId, Digest);

/// The keys on their way, each with its wish. As many as admissions at once, at most.
#[derive(Clone, Debug, Default)]
pub struct KeysInFlight(Arc<Mutex<HashMap<Key, Reserved>>>);

#[derive(Debug)]
struct Reserved {
    wish: (SlotId, PatientId),
    /// Repeats of one request may be on their way together: Redis tells them from each other.
    holders: usize,
}

/// A key reserved for a wish until this is dropped.
#[derive(Debug)]
pub struct Reservation {
    keys: KeysInFlight,
    key: Key,
}

impl KeysInFlight {
    /// Reserves the wish's key; `None` if it is on its way with another wish.
    pub fn reserve(&self, wish: &Wish) -> Option<Reservation> {
        let key = (wish.account, wish.key);
        let wish = (wish.slot, wish.patient);
        match self.lock().entry(key) {
            Entry::Occupied(entry) if entry.get().wish != wish => return None,
            Entry::Occupied(mut entry) => entry.get_mut().holders += 1,
            Entry::Vacant(entry) => {
                entry.insert(Reserved { wish, holders: 1 });
            }
        }
        Some(Reservation { keys: self.clone(), key })
    }

    /// Tells whether a request under the wish's key is on its way.
    pub fn is_on_its_way(&self, wish: &Wish) -> bool {
        self.lock().contains_key(&(wish.account, wish.key))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Reserved>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut keys = self.keys.lock();
        if let Entry::Occupied(mut entry) = keys.entry(self.key) {
            entry.get_mut().holders -= 1;
            if entry.get().holders == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use booking::SessionId;

    use super::*;

    #[test]
    fn a_key_on_its_way_stands_for_one_wish_until_the_last_repeat_is_answered() {
        let keys = KeysInFlight::default();
        let wish = |session: i64| {
            let slot = SlotId::of(SessionId::from(session), 0);
            Wish::new(AccountId::from(1), slot, PatientId::from(1), Digest::of_key("k"))
        };
        let first = keys.reserve(&wish(1)).expect("free");
        let repeat = keys.reserve(&wish(1)).expect("the same wish");
        assert!(keys.reserve(&wish(2)).is_none());
        drop(first);
        assert!(keys.reserve(&wish(2)).is_none());
        drop(repeat);
        assert!(keys.reserve(&wish(2)).is_some());
        assert!(keys.lock().is_empty());
    }
}
