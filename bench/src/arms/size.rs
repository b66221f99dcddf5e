//! What an open slot takes in Redis (E1), beside one key for each (B6).

use anyhow::{Context as _, Result};
use e2e::reach::redis_info;

use super::Rig;

impl Rig<'_> {
    /// Bytes that a Redis uses.
    pub(super) async fn used_memory(port: u16) -> Result<u64> {
        let text = redis_info(port, "memory").await?;
        let used = text.lines().find_map(|line| line.strip_prefix("used_memory:"));
        used.and_then(|used| used.trim().parse().ok()).context("no used_memory")
    }

    /// Bytes of one slot where each has a key, of so many.
    pub(super) async fn bytes_of_keys(&self, slots: usize) -> Result<f64> {
        let before = Self::used_memory(self.bare.port()).await?;
        self.bare.set_keys(slots).await?;
        let after = Self::used_memory(self.bare.port()).await?;
        self.bare.drop_keys(slots).await?;
        Ok(per(after.saturating_sub(before), slots))
    }
}

#[expect(clippy::cast_precision_loss, reason = "fewer than 2^53")]
pub(super) fn per(bytes: u64, slots: usize) -> f64 {
    bytes as f64 / slots.max(1) as f64
}
