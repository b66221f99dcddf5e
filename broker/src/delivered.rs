//! What came from a queue, and what its handler says to it.

use std::time::Duration;

use booking::message::{Barrier, Message};
use booking::{Envelope, Epoch, Partition};
use lapin::Acker;
use lapin::message::Delivery;
use lapin::types::AMQPValue;

use crate::courier::MANIFEST_HEADER;

/// A message as it came from the queue.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// What it says, or why that can't be read.
    pub message: Result<Envelope, String>,
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
    /// Not now: ask again with the same message after a while, and with no other meanwhile.
    Retry {
        /// How long to wait.
        after: Duration,
    },
}

/// Decides over messages; the broker acts.
pub trait Handler: Send + 'static {
    /// Decides over a batch, in order; one verdict each.
    fn handle(
        &mut self,
        partition: Partition,
        batch: &[Delivered],
    ) -> impl Future<Output = Vec<Verdict>> + Send;

    /// Notes that everything published before the seal of `epoch` came through (step W6).
    fn drained(
        &mut self,
        partition: Partition,
        epoch: Epoch,
    ) -> impl Future<Output = Verdict> + Send;
}

/// A delivery, read.
pub(crate) enum Content {
    /// For the handler.
    Batched(Delivered),
    /// For the consumer itself.
    Barrier(Barrier),
}

/// A delivery that is not yet acknowledged.
pub(crate) struct Pending {
    pub(crate) content: Content,
    pub(crate) acker: Acker,
}

impl Pending {
    pub(crate) fn read(delivery: Delivery, partition: Partition) -> Self {
        let kind = delivery.properties.kind().as_ref().map_or("", |kind| kind.as_str());
        let manifest = delivery.properties.headers().as_ref().and_then(|headers| {
            match headers.inner().get(MANIFEST_HEADER)? {
                AMQPValue::LongString(text) => Some(text.to_string()),
                _ => None,
            }
        });
        let message = match Message::decode(kind, &delivery.data) {
            Ok(Message::Barrier(barrier)) if barrier.partition == partition => {
                let content = Content::Barrier(barrier);
                return Self { content, acker: delivery.acker };
            }
            Ok(Message::Barrier(_)) => Err("a barrier of another partition".to_owned()),
            Ok(Message::Envelope(envelope)) => Ok(envelope),
            Err(error) => Err(error.to_string()),
        };
        let redelivered = delivery.redelivered;
        let content =
            Content::Batched(Delivered { message, body: delivery.data, manifest, redelivered });
        Self { content, acker: delivery.acker }
    }

    pub(crate) fn bookings(&self) -> usize {
        match &self.content {
            Content::Batched(delivered) => delivered.bookings(),
            Content::Barrier(_) => 0,
        }
    }
}

impl Delivered {
    /// Counts the bookings, taking what can't be read for one.
    pub(crate) fn bookings(&self) -> usize {
        self.message.as_ref().map_or(1, |envelope| envelope.bookings.len())
    }
}
