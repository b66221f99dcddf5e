//! Epochs: the life of one allotment of a partition's quota on one Redis.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of an epoch within its partition, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub i64);

impl Epoch {
    /// Before the first epoch was opened.
    pub const NONE: Self = Self(0);

    /// Returns the epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(itoa::Buffer::new().format(self.0))
    }
}

/// Which life of which Redis data set: it changes with every restart, failover and failback.
///
/// `run_id` alone is not enough: a primary that comes back as its successor's replica and is
/// promoted again is the same process with other data, and only the replication id tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Term {
    /// `run_id` of `INFO server`.
    pub run_id: String,
    /// `master_replid` of `INFO replication`.
    pub replid: String,
}

/// A random word that ties one opening of an epoch in PostgreSQL to one shell in Redis.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(pub String);

impl Nonce {
    /// Writes 128 random bits as a nonce.
    pub fn from_random(bits: u128) -> Self {
        Self(format!("{bits:032x}"))
    }
}
