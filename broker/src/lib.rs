//! Bookings on the wire. The only crate that speaks AMQP.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use booking::message::Message;
use booking::{Booking, Epoch, Partition, PartitionCount};
use futures::future::BoxFuture;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

/// How to reach RabbitMQ.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `amqp://…`
    pub url: SecretString,
    /// First part of every queue's name (`slotrush` → `slotrush.bookings.7`, `slotrush.parking`).
    pub prefix: String,
    /// How many bookings queues there are.
    pub partitions: PartitionCount,
    /// Publishing channels per partition, each with one envelope in flight.
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

/// The state of the connection that publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Publishing works.
    Up,
    /// No connection; being made again.
    Down,
    /// RabbitMQ takes nothing (`connection.blocked`).
    Blocked,
}

/// What is known of a published booking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// Confirmed, and certified after the confirm.
    Certain,
    /// Anything else: late, nacked, returned, blocked, cut, or not certified. It may be in the queue.
    Uncertain,
}

/// G3: asked once per confirmed envelope, after the confirm; answers for each booking's epoch, in order.
pub type Certify = Arc<dyn Fn(Vec<(Partition, Epoch)>) -> BoxFuture<'static, Vec<bool>> + Send + Sync>;

/// Why a message was not surely published.
#[derive(Debug, thiserror::Error)]
#[error("the outcome of the publish is unknown")]
pub struct Unknown;

/// Publishes bookings in envelopes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Publisher {}

impl Publisher {
    /// Starts the supervised connection and returns at once. `certify` is `None` where nobody is told "queued".
    pub fn start(settings: &Settings, certify: Option<Certify>, shutdown: CancellationToken) -> Self { unimplemented!() }
    /// Returns the state of the connection.
    pub fn link(&self) -> Link { unimplemented!() }
    /// Waits for the link to be up.
    pub async fn wait_up(&self) { unimplemented!() }
    /// Sends a booking in the next envelope of its partition and waits for what is known of it. Never hangs longer than the confirm timeout and the certification.
    pub async fn publish(&self, partition: Partition, booking: Booking) -> Published { unimplemented!() }
    /// Sends one message (a barrier, or the relay's envelope) and waits for its confirm.
    pub async fn send(&self, partition: Partition, message: &Message) -> Result<(), Unknown> { unimplemented!() }
    /// Returns how many bookings wait to be sent or confirmed in a partition.
    pub fn waiting(&self, partition: Partition) -> usize { unimplemented!() }
}

/// A message as it came from the queue.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// What it says, or why that can't be read.
    pub message: Result<booking::Envelope, String>,
    /// The raw body.
    pub body: Vec<u8>,
    /// Its manifest header, if any.
    pub manifest: Option<String>,
    /// Whether RabbitMQ delivered it before.
    pub redelivered: bool,
}

/// What to do with a delivered message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything in it has its row or is parked.
    Ack,
    /// Not now: ask again with the same message after a while, and read no further meanwhile.
    Retry {
        /// How long to wait.
        after: Duration,
    },
}

/// Decides over messages; the broker acts.
pub trait Handler: Send + 'static {
    /// Decides over a batch, in order; one verdict each.
    fn handle(&mut self, partition: Partition, batch: &[Delivered]) -> impl Future<Output = Vec<Verdict>> + Send;
    /// Notes that everything published before the seal of `epoch` came through (step W6).
    fn drained(&mut self, partition: Partition, epoch: Epoch) -> impl Future<Output = Verdict> + Send;
}

/// Consumes one partition until shutdown: connects, declares, consumes, rebuilds on any fault, for ever.
/// Steps W3, W5 and W6: acks after the verdict, echoes barriers, hands over only by closing the channel.
pub async fn consume<H: Handler>(settings: &Settings, partition: Partition, handler: H, shutdown: CancellationToken) { unimplemented!() }

/// Consumes the parking queue (what RabbitMQ dead-lettered) until shutdown.
pub async fn consume_parking<H: Handler>(settings: &Settings, handler: H, shutdown: CancellationToken) { unimplemented!() }

/// How many messages stand in each bookings queue and in the parking queue; `Unknown` if RabbitMQ can't be asked.
pub async fn depths(settings: &Settings) -> Result<Depths, Unknown> { unimplemented!() }

/// Messages ready in the queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depths {
    /// By partition.
    pub bookings: Vec<u32>,
    /// In the parking queue.
    pub parking: u32,
}

/// Deletes all queues of this prefix: for tests and `reset`.
pub async fn delete_queues(settings: &Settings) -> Result<(), Unknown> { unimplemented!() }
