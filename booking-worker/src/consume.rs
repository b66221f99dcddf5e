//! The role that makes published bookings durable: steps W1 to W4 and W6.
//!
//! The broker brings a batch, this module decides, the broker acts. An envelope is acknowledged
//! only when every booking of it has its row or is parked, so whatever happens here, nothing is
//! lost: the worst is that something is done twice, and the second time changes nothing.

mod persist;
mod reading;

use std::sync::Arc;
use std::time::Duration;

use booking::{Epoch, Partition};
use broker::{Delivered, Handler, Verdict};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Servers;
use persist::{Answer, Persister};
use reading::Reading;

/// How long to wait before PostgreSQL is asked again.
const PROBE_AFTER: Duration = Duration::from_millis(200);
/// Calls that may be settling Redis at once, per consumer. What finds no place is left to the
/// relay and the reconciler.
const SETTLING_MAX: usize = 4;

/// Decides over the messages of a queue.
#[derive(Debug)]
pub struct Consumer {
    persister: Persister,
    /// Whether this is a partition's own queue: only there does a barrier mean anything.
    is_partition: bool,
}

impl Consumer {
    /// Consumes the queue of a partition.
    pub fn of_partition(servers: &Servers) -> Self {
        Self::new(servers, true)
    }

    /// Consumes the parking queue. Its bookings are persisted like any others; a barrier that
    /// strayed there proves nothing.
    pub fn of_parking(servers: &Servers) -> Self {
        Self::new(servers, false)
    }

    fn new(servers: &Servers, is_partition: bool) -> Self {
        let settling = Arc::new(Semaphore::new(SETTLING_MAX));
        Self { persister: Persister::new(servers, settling), is_partition }
    }
}

impl Handler for Consumer {
    async fn handle(&mut self, partition: Partition, batch: &[Delivered]) -> Vec<Verdict> {
        let reading = Reading::of(partition, batch);
        let persister = self.persister.clone();
        let (bookings, unreadable) = (reading.bookings.clone(), reading.unreadable.clone());
        // A task of its own: whoever drops this future must not cut a statement short.
        let work = tokio::spawn(async move {
            (persister.persist(&bookings).await, persister.park_unreadable(&unreadable).await)
        });
        match work.await {
            Ok((answers, parked)) => reading.verdicts(&answers, &parked),
            Err(error) => {
                tracing::error!(%error, %partition, "persisting ended in a fault of this program");
                vec![Verdict::Retry { after: PROBE_AFTER }; batch.len()]
            }
        }
    }

    async fn drained(&mut self, partition: Partition, epoch: Epoch) -> Verdict {
        if !self.is_partition {
            return Verdict::Ack;
        }
        let ledger = self.persister.ledger();
        let recording = tokio::spawn(async move { ledger.record_drained(partition, epoch).await });
        match recording.await {
            Ok(Ok(())) => {
                tracing::info!(%partition, %epoch, "the queue is drained of the epoch");
                Verdict::Ack
            }
            // A stray: of an epoch that is not sealed, or not even there. It proves nothing, and
            // must not hold up the queue.
            Ok(Err(error @ ledger::Error::Refused { .. })) => {
                tracing::warn!(%error, %partition, %epoch, "a barrier that means nothing");
                Verdict::Ack
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, %partition, %epoch, "the drained epoch is not recorded yet");
                Verdict::Retry { after: PROBE_AFTER }
            }
            Err(error) => {
                tracing::error!(%error, %partition, "recording ended in a fault of this program");
                Verdict::Retry { after: PROBE_AFTER }
            }
        }
    }
}

/// Starts one consumer per partition and one for the parking queue.
pub(crate) fn spawn(servers: &Servers, tasks: &TaskTracker, shutdown: &CancellationToken) {
    persist::show_reasons();
    for partition in servers.partitions().all() {
        let (broker, shutdown) = (servers.broker.clone(), shutdown.clone());
        let consumer = Consumer::of_partition(servers);
        tasks.spawn(async move { broker::consume(&broker, partition, consumer, shutdown).await });
    }
    let (broker, shutdown) = (servers.broker.clone(), shutdown.clone());
    let consumer = Consumer::of_parking(servers);
    tasks.spawn(async move { broker::consume_parking(&broker, consumer, shutdown).await });
}

impl Answer {
    /// Turns what became of a booking into what happens to its message.
    const fn verdict(self) -> Verdict {
        match self {
            Self::Final => Verdict::Ack,
            Self::Later => Verdict::Retry { after: PROBE_AFTER },
        }
    }
}
