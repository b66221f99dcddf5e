//! Partitions: the one unit of scale.
//!
//! One partition is one Redis hash tag, one epoch, one outbox and one queue with one active
//! consumer. Every slot of a session lies in the session's partition, for ever.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{SessionId, SlotId};

/// The most partitions a deployment may have: six bits of the booking id.
pub const PARTITIONS_MAX: u8 = 64;

/// A partition's number, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(u8);

impl Partition {
    /// Names partition `number`.
    ///
    /// # Panics
    /// If `number` is not below [`PARTITIONS_MAX`].
    pub const fn new(number: u8) -> Self {
        assert!(number < PARTITIONS_MAX, "a partition is below 64");
        Self(number)
    }

    /// Returns the number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many partitions a deployment has. Fixed for its life: it decides where every session lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionCount(u8);

impl PartitionCount {
    /// Returns the count, or `None` outside 1 to [`PARTITIONS_MAX`].
    pub const fn new(count: u8) -> Option<Self> {
        if count == 0 || count > PARTITIONS_MAX { None } else { Some(Self(count)) }
    }

    /// Returns the number of partitions.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Returns every partition, lowest first.
    pub fn all(self) -> impl Iterator<Item = Partition> + Clone {
        (0..self.0).map(Partition)
    }

    /// Returns the partition a session lies in.
    pub fn of_session(self, session: SessionId) -> Partition {
        let spread = mix(session.get().cast_unsigned()) % u64::from(self.0);
        Partition(u8::try_from(spread).unwrap_or(0))
    }

    /// Returns the partition a slot lies in: its session's.
    pub fn of_slot(self, slot: SlotId) -> Partition {
        self.of_session(slot.session())
    }
}

/// The finalizer of SplitMix64. Its values are part of the stored data: it must never change.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_the_stored_data_was_laid_out_with() {
        let eight = PartitionCount::new(8).expect("eight is allowed");
        let first: Vec<u8> =
            (1..=12).map(|id| eight.of_session(SessionId::from(id)).get()).collect();
        assert_eq!(first, [5, 2, 0, 4, 4, 4, 4, 0, 7, 1, 5, 4]);
    }

    #[test]
    fn neighbouring_sessions_spread_evenly() {
        let eight = PartitionCount::new(8).expect("eight is allowed");
        let mut seen = [0u32; 8];
        for id in 1..=8000 {
            seen[usize::from(eight.of_session(SessionId::from(id)).get())] += 1;
        }
        assert!(seen.iter().all(|n| (800..1200).contains(n)), "{seen:?}");
    }

    #[test]
    fn no_partition_is_no_deployment() {
        assert_eq!(PartitionCount::new(0), None);
        assert_eq!(PartitionCount::new(65), None);
    }
}
