//! Bookings published a second time, late and in another order: what a relay, a network and a
//! gateway that hesitates do together.
//!
//! Done from outside: copies of what stands in the outbox and of what is persisted already are sent
//! through the broker's own publisher, as the relay sends them.

use std::time::Duration;

use booking::message::{Envelope, Message};
use booking::{Booking, Clock as _, Partition, SystemClock};
use broker::Publisher;
use inventory::Inventory;
use ledger::Ledger;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// One booking in this many is published again.
const ONE_IN: u32 = 5;
/// How often new ones are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Bookings that wait for their second time, at most.
const WAITING_MAX: usize = 200;
/// How old persisted bookings may be to be published again, ms.
const AGE_MAX_MS: i64 = 5_000;

/// Who publishes again.
#[derive(Debug)]
pub(super) struct Echo {
    inventory: Inventory,
    ledger: Ledger,
    queues: broker::Settings,
    rng: StdRng,
}

impl Echo {
    pub(super) fn new(
        redis_url: secrecy::SecretString,
        ledger: Ledger,
        queues: broker::Settings,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let settings =
            inventory::Settings { url: redis_url, connections: 1, response_timeout_ms: 1_000 };
        let inventory = Inventory::start(&settings)?;
        Ok(Self { inventory, ledger, queues, rng: StdRng::seed_from_u64(seed) })
    }

    /// Publishes again for a while; returns how many. What can't be reached is left out.
    pub(super) async fn run(mut self, lasts: Duration) -> u64 {
        let shutdown = CancellationToken::new();
        let publisher = Publisher::start(&self.queues, None, shutdown.clone());
        let until = Instant::now() + lasts;
        let mut waiting: Vec<(Partition, Booking)> = Vec::new();
        let mut count = 0;
        while Instant::now() < until {
            for partition in self.queues.partitions.all() {
                let seen = self.seen(partition).await;
                for booking in seen {
                    if waiting.len() < WAITING_MAX && self.rng.random_ratio(1, ONE_IN) {
                        waiting.push((partition, booking));
                    }
                }
            }
            waiting.shuffle(&mut self.rng);
            let now = waiting.len() / 4;
            count += send(&publisher, waiting.drain(..now)).await;
            sleep(LOOK_EVERY).await;
        }
        count += send(&publisher, waiting.drain(..)).await;
        shutdown.cancel();
        count
    }

    async fn seen(&self, partition: Partition) -> Vec<Booking> {
        let outbox = self.inventory.scan_outbox(partition, 0, 50).await;
        let mut seen = outbox.map(|(_, outbox)| outbox.bookings).unwrap_or_default();
        let since = SystemClock.now().plus_ms(-AGE_MAX_MS);
        let rows = self.ledger.changed_since(partition, since, 50).await.unwrap_or_default();
        seen.extend(rows.into_iter().map(|row| row.booking));
        seen
    }
}

async fn send(publisher: &Publisher, bookings: impl Iterator<Item = (Partition, Booking)>) -> u64 {
    let mut count = 0;
    for (partition, booking) in bookings {
        let message = Message::Envelope(Envelope::new(vec![booking]));
        count += u64::from(publisher.send(partition, &message).await.is_ok());
    }
    count
}
