//! Looking at a system from outside: PostgreSQL, Redis and RabbitMQ.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use anyhow::Context as _;
use booking::{BookingId, Epoch, Partition, PartitionCount, SessionId, UnixMs};
use inventory::{Inventory, SlotCount};
use ledger::Ledger;
use ledger::audit::Violation;
use ledger::booking_row::BookingRow;
use ledger::epoch::EpochState;
use tokio::time::{Instant, sleep};

use crate::answer::Answer;
use crate::history::{History, Plan};
use crate::settings::Target;

/// How often a system on its way to rest is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Rows read at once.
const PAGE: u16 = 10_000;

/// Ids asked for at once.
const IDS: usize = 5_000;

/// What still moves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stillness {
    /// Messages in the bookings queues; `None` if RabbitMQ could not be asked.
    pub waiting: Option<u64>,
    /// Messages in the parking queue.
    pub parking: u64,
    /// Entries in the outboxes; `None` if Redis could not be asked.
    pub outbox: Option<u64>,
    /// Epochs that are sealed and not closed; `None` if PostgreSQL could not be asked.
    pub unclosed: Option<Vec<(Partition, Epoch)>>,
}

impl Stillness {
    /// Tells what is not at rest; empty when all is.
    pub fn restless(&self) -> Vec<String> {
        let mut found = Vec::new();
        match self.waiting {
            Some(0) => {}
            Some(count) => found.push(format!("{count} messages in the bookings queues")),
            None => found.push("RabbitMQ could not be asked".to_owned()),
        }
        match self.outbox {
            Some(0) => {}
            Some(count) => found.push(format!("{count} entries in the outboxes")),
            None => found.push("Redis could not be asked".to_owned()),
        }
        match self.unclosed.as_deref() {
            Some([]) => {}
            Some(epochs) => found.push(format!("{} old epochs are not closed", epochs.len())),
            None => found.push("PostgreSQL could not be asked".to_owned()),
        }
        found
    }
}

/// A release's places, as PostgreSQL counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// There are.
    pub capacity: u64,
    /// Live appointments.
    pub booked: u64,
    /// Set aside for Redis.
    pub escrowed: u64,
    /// Not set aside though they could be.
    pub free: u64,
}

/// Everything seen, at one time, of a system at rest.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// What moved, if anything.
    pub stillness: Stillness,
    /// What the ledger's own audit found.
    pub ledger: Vec<Violation>,
    /// Rows: all that changed since the preparation, and all whose id anybody was told.
    pub rows: Vec<BookingRow>,
    /// The release's places.
    pub places: Places,
    /// Redis's counters of the release's slots.
    pub redis: Vec<SlotCount>,
    /// Parked rows.
    pub parked: usize,
}

/// Handles to everything that is looked at.
#[derive(Debug)]
pub struct Probe {
    ledger: Ledger,
    inventory: Inventory,
    broker: broker::Settings,
    partitions: PartitionCount,
}

impl Probe {
    /// Prepares to look at `target`. Connects when first used.
    ///
    /// # Errors
    /// If an address is malformed.
    pub fn new(target: &Target) -> anyhow::Result<Self> {
        let ledger = Ledger::start(&ledger::Settings {
            url: target.database_url.clone(),
            connections_max: 4,
            acquire_timeout_ms: 10_000,
            statement_timeout_ms: 60_000,
            application_name: "slotrush-rush",
        })
        .context("the database's address is malformed")?;
        let inventory = Inventory::start(&inventory::Settings {
            url: target.redis_url.clone(),
            connections: 1,
            response_timeout_ms: 5_000,
        })
        .context("the address of Redis is malformed")?;
        let broker = broker::Settings {
            url: target.amqp_url.clone(),
            prefix: target.queue_prefix.clone(),
            partitions: target.partitions,
            lanes: 1,
            confirm_timeout_ms: 5_000,
            waiting_max: 1,
            prefetch: 1,
            batch_bookings_max: 1,
            batch_wait_ms: 1,
        };
        Ok(Self { ledger, inventory, broker, partitions: target.partitions })
    }

    /// Returns the ledger, for preparing a crowd.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Returns Redis.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Returns how many partitions there are.
    pub fn partitions(&self) -> PartitionCount {
        self.partitions
    }

    /// Waits until nothing moves, at most `within`; returns the last look.
    pub async fn settle(&self, within: Duration) -> Stillness {
        let deadline = Instant::now() + within;
        loop {
            let stillness = self.look().await;
            if stillness.restless().is_empty() || Instant::now() >= deadline {
                return stillness;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self) -> Stillness {
        // The outboxes last: what is in neither queue nor outbox afterwards has its row.
        let depths = broker::depths(&self.broker).await.ok();
        let unclosed = self.unclosed().await.ok();
        let mut outbox = Some(0);
        for partition in self.partitions.all() {
            let inspection = self.inventory.inspect(partition).await.ok();
            outbox = outbox.zip(inspection).map(|(sum, seen)| sum + seen.outbox_len);
        }
        Stillness {
            waiting: depths.as_ref().map(|d| d.bookings.iter().map(|n| u64::from(*n)).sum()),
            parking: depths.map_or(0, |d| u64::from(d.parking)),
            outbox,
            unclosed,
        }
    }

    async fn unclosed(&self) -> anyhow::Result<Vec<(Partition, Epoch)>> {
        let epochs = self.ledger.epochs().await?;
        let sealed = epochs.iter().filter(|row| row.state == EpochState::Sealed);
        Ok(sealed.map(|row| (row.partition, row.epoch)).collect())
    }

    /// Gathers all that is needed to judge a release.
    ///
    /// # Errors
    /// If PostgreSQL or Redis can't be asked.
    pub async fn evidence(
        &self,
        plan: &Plan,
        history: &History,
        stillness: Stillness,
    ) -> anyhow::Result<Evidence> {
        let release = self.ledger.release(plan.release).await.context("reading the release")?;
        let counts = release.context("there is no such release")?.counts;
        let places = Places {
            capacity: counts.capacity,
            booked: counts.booked,
            escrowed: counts.escrowed,
            free: counts.free,
        };
        Ok(Evidence {
            ledger: self.ledger.audit().await.context("auditing the ledger")?,
            rows: self.rows(plan, history).await.context("reading the bookings")?,
            places,
            redis: self.counts(plan).await.context("reading Redis")?,
            parked: self.ledger.parked(None, 1_000).await.context("reading the parked")?.len(),
            stillness,
        })
    }

    async fn counts(&self, plan: &Plan) -> anyhow::Result<Vec<SlotCount>> {
        let mut sessions: BTreeMap<Partition, BTreeSet<SessionId>> = BTreeMap::new();
        for offer in &plan.offers {
            let partition = self.partitions.of_slot(offer.slot);
            sessions.entry(partition).or_default().insert(offer.slot.session());
        }
        let ours: BTreeSet<_> = plan.offers.iter().map(|offer| offer.slot).collect();
        let mut counts = Vec::new();
        for (partition, sessions) in sessions {
            let sessions: Vec<_> = sessions.into_iter().collect();
            counts.extend(self.inventory.snapshot(partition, &sessions).await?);
        }
        counts.retain(|count| ours.contains(&count.slot));
        Ok(counts)
    }

    async fn rows(&self, plan: &Plan, history: &History) -> anyhow::Result<Vec<BookingRow>> {
        let mut rows: HashMap<BookingId, BookingRow> = HashMap::new();
        for partition in self.partitions.all() {
            self.changed(partition, plan.prepared_at, &mut rows).await?;
        }
        let told = history.events.iter().filter_map(|event| match event.answer {
            Answer::Booking { id, .. } => Some(id),
            _ => None,
        });
        let missing: BTreeSet<_> = told.filter(|id| !rows.contains_key(id)).collect();
        let missing: Vec<_> = missing.into_iter().collect();
        for ids in missing.chunks(IDS) {
            let found = self.ledger.find_bookings(ids).await?;
            rows.extend(found.into_iter().map(|row| (row.booking.id, row)));
        }
        Ok(rows.into_values().collect())
    }

    /// Reads a partition's rows page by page. A page begins with the millisecond the last one
    /// ended in, so that rows of one millisecond are not cut apart.
    async fn changed(
        &self,
        partition: Partition,
        since: UnixMs,
        rows: &mut HashMap<BookingId, BookingRow>,
    ) -> anyhow::Result<()> {
        let mut since = since;
        loop {
            let page = self.ledger.changed_since(partition, since, PAGE).await?;
            let (count, last) = (page.len(), page.last().map(|row| row.changed_at));
            let before = rows.len();
            rows.extend(page.into_iter().map(|row| (row.booking.id, row)));
            match last {
                Some(last) if count >= usize::from(PAGE) && rows.len() > before => since = last,
                _ => return Ok(()),
            }
        }
    }
}
