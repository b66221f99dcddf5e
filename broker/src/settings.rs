//! How to reach RabbitMQ, and how much may wait or travel at once.

use std::time::Duration;

use booking::PartitionCount;
use secrecy::SecretString;

/// How to reach RabbitMQ.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `amqp://…`
    pub url: SecretString,
    /// First part of every queue's name (`slotrush` → `slotrush.bookings.7`, `slotrush.parking`).
    pub prefix: String,
    /// How many bookings queues there are.
    pub partitions: PartitionCount,
    /// Publishing channels per partition, each with one envelope in flight; a further one is used for a full
    /// envelope, or while a confirm takes long.
    pub lanes: usize,
    /// How long a confirm may take before its outcome is unknown.
    pub confirm_timeout_ms: u64,
    /// Bookings waiting to be sent, per partition, before publishing is refused.
    pub waiting_max: usize,
    /// Unacknowledged envelopes a consumer may hold.
    pub prefetch: u16,
    /// Bookings a consumer gathers for one statement.
    pub batch_bookings_max: usize,
    /// How long it gathers.
    pub batch_wait_ms: u64,
}

impl Settings {
    pub(crate) fn confirm_timeout(&self) -> Duration {
        Duration::from_millis(self.confirm_timeout_ms)
    }

    pub(crate) fn batch_wait(&self) -> Duration {
        Duration::from_millis(self.batch_wait_ms)
    }
}
