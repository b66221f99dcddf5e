//! One message, sent and confirmed. Anything but a plain confirm is a doubt.

use std::time::Duration;

use booking::Partition;
use booking::message::Message;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation};

use crate::topology::Topology;

/// Header that still tells what an envelope may hold when its body can't be read.
pub(crate) const MANIFEST_HEADER: &str = "x-slotrush-manifest";
/// AMQP delivery mode of a message that is to survive a restart.
const PERSISTENT: u8 = 2;

/// Why a message may or may not be in its queue.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Doubt {
    #[error("no confirm in time")]
    Late,
    #[error("refused by the queue")]
    Nacked,
    #[error("no queue took it")]
    Returned,
    #[error("{0}")]
    Broken(#[from] lapin::Error),
}

/// Publishes one message to a partition's queue and waits for its confirm.
///
/// The channel must confirm, and must have no other message under way: lapin may hand a returned
/// message to the confirm of another one. After a doubt the channel must not be used again.
pub(crate) async fn deliver(
    channel: &Channel,
    topology: &Topology,
    partition: Partition,
    message: &Message,
    bound: Duration,
) -> Result<(), Doubt> {
    let body = message.encode();
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let published = async {
        let confirm = channel
            .basic_publish(
                topology.exchange().into(),
                Topology::routing_key(partition).into(),
                options,
                &body,
                properties(message),
            )
            .await?;
        failpoint::point!("publish.sent");
        confirm.await
    };
    match tokio::time::timeout(bound, published).await.map_err(|_| Doubt::Late)?? {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(_)) => Err(Doubt::Returned),
        // NotRequested: not a confirming channel, so nothing is known.
        Confirmation::Nack(_) | Confirmation::NotRequested => Err(Doubt::Nacked),
    }
}

fn properties(message: &Message) -> BasicProperties {
    let mut headers = FieldTable::default();
    if let Message::Envelope(envelope) = message {
        let manifest = AMQPValue::LongString(envelope.manifest().into());
        headers.insert(MANIFEST_HEADER.into(), manifest);
    }
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_message_id(format!("{:032x}", rand::random::<u128>()).into())
        .with_type(message.kind().into())
        .with_headers(headers)
}
