//! One life of a consumer: a channel of its own connection, from `basic.consume` to its end.
//!
//! Nothing is ever acknowledged on another channel than the one that delivered it, nothing is
//! rejected or requeued, and the consumer is never cancelled: it ends with its channel, so that
//! what was not acknowledged goes back to its old place in the queue before anybody else reads on.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use booking::Partition;
use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Acker, Channel, Consumer};
use tokio::time::{Instant, timeout_at};

use crate::delivered::{Content, Delivered, Pending};
use crate::fault::{Fault, within};
use crate::link::WATCH_EVERY;
use crate::wire::{STEP_MAX, Wire};

/// What a consumer reads, and how much of it at once.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    pub(crate) queue: String,
    pub(crate) prefetch: u16,
    pub(crate) bookings_max: usize,
    pub(crate) wait: Duration,
}

/// A batch for the handler, or a barrier behind everything delivered before it.
pub(crate) enum Turn {
    Batch { items: Vec<Delivered>, ackers: Vec<Acker>, partition: Partition },
    Barrier { barrier: booking::message::Barrier, acker: Acker },
}

/// The consuming channel.
pub(crate) struct Tap {
    // First, so that it is dropped first: the cut must come before lapin's `basic.cancel`.
    wire: Wire,
    channel: Channel,
    deliveries: Consumer,
    intake: Intake,
    partition_of: Box<dyn Fn(&str) -> Partition + Send + Sync>,
    /// Delivered, but of later turns; or how the deliveries ended. No more bookings than one turn may have,
    /// but for the last envelope, and no more messages than the prefetch.
    ahead: VecDeque<Result<(Partition, Pending), Fault>>,
    /// Names this life, so that it knows its own echoes.
    life: String,
    idle_ticks: u32,
}

/// Idle ticks after which a new channel takes over: 10 s.
///
/// A queue deleted and declared again within milliseconds tells its consumer nothing: RabbitMQ
/// (3.10.8) moves it over by itself, where it swallows every message whose number it has seen, with
/// channel and connection in perfect health. A channel of a new life gets those messages.
const RENEW_AFTER: u32 = 50;

impl Tap {
    pub(crate) async fn open(
        wire: Wire,
        intake: Intake,
        partition_of: Box<dyn Fn(&str) -> Partition + Send + Sync>,
    ) -> Result<Self, Fault> {
        let (channel, deliveries) = subscribe(&wire, &intake).await?;
        let (ahead, life, idle_ticks) = (VecDeque::new(), new_life(), 0);
        Ok(Self { wire, channel, deliveries, intake, partition_of, ahead, life, idle_ticks })
    }

    pub(crate) fn life(&self) -> &str {
        &self.life
    }

    /// Gathers the next turn. Dropped half-way, what it had stays unacknowledged.
    pub(crate) async fn turn(&mut self) -> Result<Turn, Fault> {
        let (partition, first) = match self.ahead.pop_front() {
            Some(delivered) => delivered?,
            None => self.first().await?,
        };
        let (mut items, mut ackers) = match first {
            Pending { content: Content::Barrier(barrier), acker } => {
                return Ok(Turn::Barrier { barrier, acker });
            }
            Pending { content: Content::Batched(item), acker } => (vec![item], vec![acker]),
        };
        let mut bookings = items[0].bookings();
        let deadline = Instant::now() + self.intake.wait;
        // Beyond the prefetch nothing comes before something is acknowledged.
        while bookings < self.intake.bookings_max && items.len() < self.intake.prefetch.into() {
            let Ok(next) = timeout_at(deadline, self.next()).await else { break };
            match next? {
                (of, Pending { content: Content::Batched(item), acker })
                    if of == partition
                        && bookings + item.bookings() <= self.intake.bookings_max =>
                {
                    bookings += item.bookings();
                    items.push(item);
                    ackers.push(acker);
                }
                later => {
                    self.ahead.push_front(Ok(later));
                    break;
                }
            }
        }
        Ok(Turn::Batch { items, ackers, partition })
    }

    /// Reads what belongs to the next turn while this one is decided over, so that this needs no time
    /// between them. Goes on until it is dropped; loses nothing then.
    pub(crate) async fn read_ahead(&mut self) -> Infallible {
        let read = self.ahead.iter().flatten().map(|(_, pending)| pending.bookings());
        let mut bookings: usize = read.sum();
        let mut is_over = self.ahead.iter().any(Result::is_err);
        while !is_over && bookings < self.intake.bookings_max {
            let delivered = match self.deliveries.next().await {
                Some(Ok(delivery)) => Ok(self.read(delivery)),
                Some(Err(error)) => Err(error.into()),
                None => Err(Fault::Cancelled),
            };
            bookings += delivered.as_ref().map_or(0, |(_, pending)| pending.bookings());
            is_over = delivered.is_err();
            self.ahead.push_back(delivered);
        }
        std::future::pending().await
    }

    fn read(&self, delivery: Delivery) -> (Partition, Pending) {
        let partition = (self.partition_of)(delivery.routing_key.as_str());
        (partition, Pending::read(delivery, partition))
    }

    /// Waits for the first delivery of a turn. Nothing is unacknowledged meanwhile.
    async fn first(&mut self) -> Result<(Partition, Pending), Fault> {
        loop {
            if let Some(delivered) = self.tick().await? {
                self.idle_ticks = 0;
                return Ok(delivered);
            }
            self.idle_ticks += 1;
            if self.idle_ticks >= RENEW_AFTER {
                self.renew().await?;
            }
        }
    }

    async fn next(&mut self) -> Result<(Partition, Pending), Fault> {
        if let Some(delivered) = self.ahead.pop_front() {
            return delivered;
        }
        loop {
            if let Some(delivered) = self.tick().await? {
                return Ok(delivered);
            }
        }
    }

    /// Waits a little for a delivery. After a channel error the stream may stay silent for ever, so
    /// the state is looked at in between.
    async fn tick(&mut self) -> Result<Option<(Partition, Pending)>, Fault> {
        match tokio::time::timeout(WATCH_EVERY, self.deliveries.next()).await {
            Ok(Some(Ok(delivery))) => Ok(Some(self.read(delivery))),
            Ok(Some(Err(error))) => Err(error.into()),
            Ok(None) => Err(Fault::Cancelled),
            Err(_) if self.is_alive() => Ok(None),
            Err(_) => Err(Fault::Broken),
        }
    }

    /// Hands over to a new life of its own.
    async fn renew(&mut self) -> Result<(), Fault> {
        within("closing", STEP_MAX, self.channel.close(200, "OK".into())).await?;
        (self.channel, self.deliveries) = subscribe(&self.wire, &self.intake).await?;
        (self.life, self.idle_ticks) = (new_life(), 0);
        Ok(())
    }

    /// Acknowledges one message, and with `all_before` everything delivered before it.
    pub(crate) async fn ack(&self, acker: &Acker, all_before: bool) -> Result<(), Fault> {
        let ack = acker.ack(BasicAckOptions { multiple: all_before });
        if within("acknowledging", STEP_MAX, ack).await? { Ok(()) } else { Err(Fault::Broken) }
    }

    /// Ends as soon as the channel is found broken.
    pub(crate) async fn broken(&self) {
        while self.is_alive() {
            tokio::time::sleep(WATCH_EVERY).await;
        }
    }

    fn is_alive(&self) -> bool {
        self.wire.is_connected() && self.channel.status().connected()
    }

    /// Hands over: closes the channel, then the connection.
    pub(crate) async fn close(self) {
        // A late good-bye is none the worse: the cut of the connection ends the channel as well.
        let _ = within("closing", STEP_MAX, self.channel.close(200, "OK".into())).await;
        self.wire.close().await;
    }
}

/// Opens a channel and consumes on it.
async fn subscribe(wire: &Wire, intake: &Intake) -> Result<(Channel, Consumer), Fault> {
    let channel = wire.channel().await?;
    let prefetch = channel.basic_qos(intake.prefetch.max(1), BasicQosOptions::default());
    within("limiting the prefetch", STEP_MAX, prefetch).await?;
    let consume = channel.basic_consume(
        intake.queue.as_str().into(),
        "".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let deliveries = within("consuming", STEP_MAX, consume).await?;
    Ok((channel, deliveries))
}

fn new_life() -> String {
    format!("{:032x}", rand::random::<u128>())
}
