//! Consuming: one life after another, and in each the worker's side of the protocol (W3, W5, W6).

use std::time::Duration;

use booking::message::{Barrier, Message};
use booking::{Epoch, Partition};
use lapin::Acker;
use tokio_util::sync::CancellationToken;

use crate::courier::{Doubt, deliver};
use crate::delivered::{Delivered, Handler, Verdict};
use crate::fault::Fault;
use crate::link::{LinkLog, pause};
use crate::settings::Settings;
use crate::tap::{Intake, Tap, Turn};
use crate::topology::Topology;
use crate::wire::Dialer;

/// How long a batch in hand may still take after a shutdown.
const FINISH_MAX: Duration = Duration::from_secs(10);
/// The shortest and longest wait before a handler is asked again.
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_mins(1);

/// Consumes one partition until shutdown: connects, declares, consumes, rebuilds on any fault, for ever.
/// Steps W3, W5 and W6: acks after the verdict, echoes barriers, hands over only by closing the channel.
pub async fn consume<H: Handler>(
    settings: &Settings,
    partition: Partition,
    handler: H,
    shutdown: CancellationToken,
) {
    Consuming::new(settings, Source::Bookings(partition), handler, shutdown).run().await;
}

/// Consumes the parking queue (what RabbitMQ dead-lettered), one message at a time, until shutdown.
/// Barriers that came there are dropped: they are published again until they have done their work.
pub async fn consume_parking<H: Handler>(
    settings: &Settings,
    handler: H,
    shutdown: CancellationToken,
) {
    Consuming::new(settings, Source::Parking, handler, shutdown).run().await;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Bookings(Partition),
    Parking,
}

struct Consuming<H> {
    source: Source,
    dialer: Dialer,
    topology: Topology,
    intake: Intake,
    confirm_timeout: Duration,
    handler: H,
    shutdown: CancellationToken,
}

/// How a life ended without a fault: by shutdown.
struct Shutdown;

impl<H: Handler> Consuming<H> {
    fn new(settings: &Settings, source: Source, handler: H, shutdown: CancellationToken) -> Self {
        let topology = Topology::of(settings);
        let (queue, bookings_max) = match source {
            Source::Bookings(partition) => {
                (topology.bookings_queue(partition), settings.batch_bookings_max)
            }
            Source::Parking => (topology.parking(), 1),
        };
        let intake = Intake {
            queue,
            prefetch: settings.prefetch,
            bookings_max,
            wait: settings.batch_wait(),
        };
        Self {
            source,
            dialer: Dialer::new(&settings.url, "slotrush consumer"),
            topology,
            intake,
            confirm_timeout: settings.confirm_timeout(),
            handler,
            shutdown,
        }
    }

    async fn run(mut self) {
        let shutdown = self.shutdown.clone();
        let mut log = LinkLog::new("consuming", self.dialer.server());
        while !shutdown.is_cancelled() {
            let opened = tokio::select! {
                tap = self.open() => tap,
                () = shutdown.cancelled() => return,
            };
            let ended = match opened {
                Ok(mut tap) => {
                    log.up();
                    let ended = self.live(&mut tap).await;
                    if ended.is_ok() {
                        tap.close().await;
                    }
                    ended
                }
                Err(fault) => Err(fault),
            };
            match ended {
                Ok(Shutdown) => return,
                Err(fault) => log.down(&fault),
            }
            tokio::select! {
                () = pause() => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn open(&self) -> Result<Tap, Fault> {
        let wire = self.dialer.dial().await?;
        let partition_of: Box<dyn Fn(&str) -> Partition + Send + Sync> = match self.source {
            Source::Bookings(partition) => {
                self.topology.declare_one(partition, &self.dialer, &wire).await?;
                Box::new(move |_| partition)
            }
            Source::Parking => {
                self.topology.declare(&self.dialer, &wire).await?;
                let topology = self.topology.clone();
                Box::new(move |key| topology.partition_of(key).unwrap_or(Partition::new(0)))
            }
        };
        Tap::open(wire, self.intake.clone(), partition_of).await
    }

    /// Lives one life of the channel.
    async fn live(&mut self, tap: &mut Tap) -> Result<Shutdown, Fault> {
        loop {
            let turn = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Ok(Shutdown),
                turn = tap.turn() => turn?,
            };
            let ended = match turn {
                Turn::Batch { items, ackers, partition } => {
                    self.settle(tap, partition, items, ackers).await?
                }
                Turn::Barrier { barrier, acker } => self.pass(tap, barrier, &acker).await?,
            };
            if let Some(shutdown) = ended {
                return Ok(shutdown);
            }
        }
    }

    /// W3: asks until every message of the batch is done with, and acknowledges just those that are.
    async fn settle(
        &mut self,
        tap: &mut Tap,
        partition: Partition,
        mut items: Vec<Delivered>,
        mut ackers: Vec<Acker>,
    ) -> Result<Option<Shutdown>, Fault> {
        loop {
            let verdicts = tokio::select! {
                // The handler begins first: what is read ahead must not keep it waiting.
                biased;
                verdicts = self.handler.handle(partition, &items) => verdicts,
                never = tap.read_ahead() => match never {},
                () = overdue(&self.shutdown) => return Ok(Some(Shutdown)),
            };
            if verdicts.len() != items.len() {
                return Err(Fault::Verdicts { asked: items.len(), given: verdicts.len() });
            }
            let retry = verdicts.iter().filter_map(|verdict| match verdict {
                Verdict::Ack => None,
                Verdict::Retry { after } => Some(*after),
            });
            let Some(after) = retry.max() else {
                failpoint::point!("consumer.acking");
                // Everything delivered up to here is done with: earlier turns are acknowledged.
                if let Some(last) = ackers.last() {
                    tap.ack(last, true).await?;
                }
                failpoint::point!("consumer.acked");
                return Ok(None);
            };
            let asked = items.into_iter().zip(ackers).zip(verdicts);
            (items, ackers) = (Vec::new(), Vec::new());
            for ((item, acker), verdict) in asked {
                if verdict == Verdict::Ack {
                    tap.ack(&acker, false).await?;
                } else {
                    items.push(item);
                    ackers.push(acker);
                }
            }
            if let Some(shutdown) = self.hold_back(tap, after).await? {
                return Ok(Some(shutdown));
            }
        }
    }

    /// W5 and W6. Everything delivered before is acknowledged by now.
    async fn pass(
        &mut self,
        tap: &Tap,
        barrier: Barrier,
        acker: &Acker,
    ) -> Result<Option<Shutdown>, Fault> {
        let Source::Bookings(partition) = self.source else {
            return tap.ack(acker, false).await.map(|()| None);
        };
        if barrier.echo_of.as_deref() == Some(tap.life()) {
            if let Some(shutdown) = self.note_drained(tap, partition, barrier.epoch).await? {
                return Ok(Some(shutdown));
            }
            failpoint::point!("consumer.drained");
        } else {
            self.echo(partition, Barrier { echo_of: Some(tap.life().to_owned()), ..barrier })
                .await?;
            failpoint::point!("consumer.echoed");
        }
        tap.ack(acker, false).await.map(|()| None)
    }

    async fn note_drained(
        &mut self,
        tap: &Tap,
        partition: Partition,
        epoch: Epoch,
    ) -> Result<Option<Shutdown>, Fault> {
        loop {
            let verdict = tokio::select! {
                verdict = self.handler.drained(partition, epoch) => verdict,
                () = overdue(&self.shutdown) => return Ok(Some(Shutdown)),
            };
            let Verdict::Retry { after } = verdict else { return Ok(None) };
            if let Some(shutdown) = self.hold_back(tap, after).await? {
                return Ok(Some(shutdown));
            }
        }
    }

    /// Publishes an echo behind everything that is in the queue now. Barriers are rare, so the
    /// echo gets a connection for itself: RabbitMQ may block one that publishes, and with it acks.
    async fn echo(&self, partition: Partition, echo: Barrier) -> Result<(), Fault> {
        let wire = self.dialer.dial().await?;
        let channel = wire.confirming_channel().await?;
        let message = Message::Barrier(echo);
        let confirmed: Result<(), Doubt> =
            deliver(&channel, &self.topology, partition, &message, self.confirm_timeout).await;
        wire.close().await;
        Ok(confirmed?)
    }

    /// Waits before asking again; nothing is read meanwhile.
    async fn hold_back(&self, tap: &Tap, after: Duration) -> Result<Option<Shutdown>, Fault> {
        tokio::select! {
            () = tokio::time::sleep(after.clamp(RETRY_MIN, RETRY_MAX)) => Ok(None),
            () = tap.broken() => Err(Fault::Broken),
            () = self.shutdown.cancelled() => Ok(Some(Shutdown)),
        }
    }
}

/// Ends when a batch in hand has had its time after a shutdown.
async fn overdue(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(FINISH_MAX).await;
}
