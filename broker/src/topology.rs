//! The queues: names, properties, declaration. The whole of it is here; nothing is declared by hand.
//!
//! | what | name | properties |
//! |---|---|---|
//! | exchange | `<prefix>` | direct, durable |
//! | queue per partition | `<prefix>.bookings.<p>` | quorum, single active consumer, `reject-publish` |
//! | exchange | `<prefix>.parking` | direct, durable: dead letters, kept at least once |
//! | queue | `<prefix>.parking` | quorum |
//!
//! The routing key is `bookings.<p>` throughout, so a dead letter still tells its partition.
//!
//! `x-delivery-limit` is −1 (no limit) from RabbitMQ 4.0 on, where the default of 20 would drop a
//! booking whose worker died 20 times; before 4.0 there is no limit by default, and a −1 there
//! drops messages on the first redelivery.
//!
//! To declare is to be able to delete, and to declare these queues is to be able to read them. An
//! account that may not is content with what is there: then another one has declared it.

use booking::{Partition, PartitionCount};
use lapin::options::{
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

use crate::fault::{Fault, is_absent, is_denied, is_mismatch, within};
use crate::greeting::Version;
use crate::settings::Settings;
use crate::wire::{Dialer, STEP_MAX, Wire};

/// From this major version on queues have a delivery limit unless told otherwise.
const LIMITED_SINCE: u16 = 4;

/// The queues and exchanges of one prefix.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    prefix: String,
    partitions: PartitionCount,
}

impl Topology {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self { prefix: settings.prefix.clone(), partitions: settings.partitions }
    }

    pub(crate) fn partitions(&self) -> PartitionCount {
        self.partitions
    }

    /// Names the exchange bookings are published to.
    pub(crate) fn exchange(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn routing_key(partition: Partition) -> String {
        format!("bookings.{partition}")
    }

    pub(crate) fn bookings_queue(&self, partition: Partition) -> String {
        format!("{}.bookings.{partition}", self.prefix)
    }

    /// Names the parking queue, and the exchange in front of it.
    pub(crate) fn parking(&self) -> String {
        format!("{}.parking", self.prefix)
    }

    /// Reads the partition off a dead letter's routing key.
    pub(crate) fn partition_of(&self, routing_key: &str) -> Option<Partition> {
        let number = routing_key.strip_prefix("bookings.")?;
        self.partitions.all().find(|partition| partition.to_string() == number)
    }

    /// Declares everything. Harmless where it exists with the same properties, or where this account
    /// may not declare but another one has.
    pub(crate) async fn declare(&self, dialer: &Dialer, wire: &Wire) -> Result<(), Fault> {
        self.declare_for(self.partitions.all(), dialer, wire).await
    }

    /// Declares everything, or fails.
    pub(crate) async fn insist_on_all(&self, dialer: &Dialer, wire: &Wire) -> Result<(), Fault> {
        self.insist(self.partitions.all(), dialer, wire).await
    }

    /// Declares what one partition needs.
    pub(crate) async fn declare_one(
        &self,
        partition: Partition,
        dialer: &Dialer,
        wire: &Wire,
    ) -> Result<(), Fault> {
        self.declare_for(std::iter::once(partition), dialer, wire).await
    }

    async fn declare_for(
        &self,
        partitions: impl Iterator<Item = Partition> + Clone,
        dialer: &Dialer,
        wire: &Wire,
    ) -> Result<(), Fault> {
        match self.insist(partitions.clone(), dialer, wire).await {
            Err(Fault::Amqp(cause)) if is_denied(&cause) => {
                self.look_for(partitions, wire, &cause).await
            }
            declared => declared,
        }
    }

    /// Sees that everything is there. Bindings can't be asked for: without one, what is published
    /// comes back.
    async fn look_for(
        &self,
        partitions: impl Iterator<Item = Partition>,
        wire: &Wire,
        denied: &lapin::Error,
    ) -> Result<(), Fault> {
        let channel = wire.channel().await?;
        for queue in partitions.map(|p| self.bookings_queue(p)).chain([self.parking()]) {
            match Self::depth(&channel, &queue).await {
                Err(Fault::Amqp(absent)) if is_absent(&absent) => {
                    return Err(Fault::NotDeclared { name: queue, cause: denied.clone() });
                }
                other => drop(other?),
            }
        }
        Ok(())
    }

    async fn insist(
        &self,
        partitions: impl Iterator<Item = Partition>,
        dialer: &Dialer,
        wire: &Wire,
    ) -> Result<(), Fault> {
        let version = dialer.version().await?;
        // A refused declaration closes its channel, so none that matters is used.
        let channel = wire.channel().await?;
        let parking = self.parking();
        declare_exchange(&channel, &self.prefix).await?;
        declare_exchange(&channel, &parking).await?;
        declare_queue(&channel, &parking, quorum(version)).await?;
        for partition in partitions {
            let queue = self.bookings_queue(partition);
            let key = Self::routing_key(partition);
            declare_queue(&channel, &queue, self.bookings_arguments(partition, version)).await?;
            bind(&channel, &queue, &self.prefix, &key).await?;
            bind(&channel, &parking, &parking, &key).await?;
        }
        Ok(())
    }

    fn bookings_arguments(&self, partition: Partition, version: Version) -> FieldTable {
        let mut arguments = quorum(version);
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        for (name, value) in [
            ("x-overflow", "reject-publish".to_owned()),
            ("x-dead-letter-exchange", self.parking()),
            ("x-dead-letter-routing-key", Self::routing_key(partition)),
            ("x-dead-letter-strategy", "at-least-once".to_owned()),
        ] {
            arguments.insert(name.into(), AMQPValue::LongString(value.into()));
        }
        arguments
    }

    /// Deletes everything, with whatever it holds.
    pub(crate) async fn delete(&self, wire: &Wire) -> Result<(), Fault> {
        let channel = wire.channel().await?;
        let queues = self.partitions.all().map(|partition| self.bookings_queue(partition));
        for queue in queues.chain([self.parking()]) {
            let delete = channel.queue_delete(queue.into(), QueueDeleteOptions::default());
            within("deleting a queue", STEP_MAX, delete).await?;
        }
        for exchange in [self.prefix.clone(), self.parking()] {
            let delete = channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default());
            within("deleting an exchange", STEP_MAX, delete).await?;
        }
        Ok(())
    }

    /// Counts the messages ready in a queue.
    pub(crate) async fn depth(channel: &Channel, queue: &str) -> Result<u32, Fault> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declare = channel.queue_declare(queue.into(), options, FieldTable::default());
        Ok(within("asking for a depth", STEP_MAX, declare).await?.message_count())
    }
}

fn quorum(version: Version) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    if version.major >= LIMITED_SINCE {
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(-1));
    }
    arguments
}

async fn declare_exchange(channel: &Channel, name: &str) -> Result<(), Fault> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let declare =
        channel.exchange_declare(name.into(), ExchangeKind::Direct, options, FieldTable::default());
    within("declaring an exchange", STEP_MAX, declare).await.map_err(|fault| named(fault, name))
}

async fn declare_queue(channel: &Channel, name: &str, arguments: FieldTable) -> Result<(), Fault> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let declare = channel.queue_declare(name.into(), options, arguments);
    let declared = within("declaring a queue", STEP_MAX, declare).await;
    declared.map(drop).map_err(|fault| named(fault, name))
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> Result<(), Fault> {
    let options = QueueBindOptions::default();
    let bind = channel.queue_bind(
        queue.into(),
        exchange.into(),
        key.into(),
        options,
        FieldTable::default(),
    );
    within("binding a queue", STEP_MAX, bind).await
}

fn named(fault: Fault, name: &str) -> Fault {
    match fault {
        Fault::Amqp(cause) if is_mismatch(&cause) => {
            Fault::Mismatch { name: name.to_owned(), cause }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// -1 before RabbitMQ 4.0 drops confirmed messages; leaving it out from 4.0 on drops them after 20 tries.
    #[test]
    fn the_delivery_limit_is_lifted_only_where_there_is_one() {
        let limit = |major| quorum(Version { major }).inner().get("x-delivery-limit").cloned();
        assert_eq!(limit(3), None);
        assert_eq!(limit(4), Some(AMQPValue::LongInt(-1)));
        assert_eq!(limit(5), Some(AMQPValue::LongInt(-1)));
    }
}
