//! A message of the pipeline, to be published once more.

use anyhow::{Context as _, Result};
use booking::message::{Message, TYPE_ENVELOPE};
use booking::{BookingId, Envelope};

use super::World;

/// A message, and how it comes to its queue.
#[derive(Clone, Debug)]
pub struct Published {
    /// The exchange.
    pub exchange: String,
    /// What leads from there to the queue.
    pub routing_key: String,
    /// Its AMQP type.
    pub kind: &'static str,
    /// Its body.
    pub body: String,
}

impl World {
    /// Makes the message of a booking that has its row. As often as it comes, it changes nothing.
    ///
    /// # Errors
    /// If there is no such row.
    pub async fn published(&self, id: BookingId) -> Result<Published> {
        let mut rows = self.probe.ledger().find_bookings(&[id]).await?;
        let booking = rows.pop().context("no such booking")?.booking;
        let partition = self.target.partitions.of_slot(booking.slot);
        let message = Message::Envelope(Envelope::new(vec![booking]));
        Ok(Published {
            exchange: self.target.queue_prefix.clone(),
            routing_key: format!("bookings.{partition}"),
            kind: TYPE_ENVELOPE,
            body: String::from_utf8(message.encode())?,
        })
    }
}
