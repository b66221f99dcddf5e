//! What the broker's tests share: a prefix of their own, bookings, a handler that reports, a proxy.

pub(crate) mod proxy;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use booking::message::{Barrier, Message, VERSION};
use booking::{
    AccountId, Booking, BookingId, Digest, Epoch, Partition, PartitionCount, PatientId, SlotId,
    UnixMs,
};
use broker::{Delivered, Handler, Link, Published, Publisher, Settings, Verdict, delete_queues};
use futures::StreamExt as _;
use futures::future::join_all;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The bound of everything that is expected to happen.
pub(crate) const SOON: Duration = Duration::from_secs(15);
pub(crate) const P0: Partition = Partition::new(0);
pub(crate) const P1: Partition = Partition::new(1);

/// Settings with a prefix nobody else uses, on the shared server.
pub(crate) async fn settings() -> Settings {
    settings_at(&testkit::amqp_url().await.expect("a RabbitMQ"))
}

/// Settings with a prefix nobody else uses, on this server.
pub(crate) fn settings_at(url: &str) -> Settings {
    Settings {
        url: url.into(),
        prefix: testkit::unique(),
        partitions: PartitionCount::new(2).expect("in range"),
        lanes: 2,
        confirm_timeout_ms: 2_000,
        waiting_max: 4_096,
        prefetch: 16,
        batch_bookings_max: 200,
        batch_wait_ms: 5,
    }
}

/// A publisher that is up, without certification.
pub(crate) async fn publisher(settings: &Settings) -> Publisher {
    let publisher = Publisher::start(settings, None, CancellationToken::new());
    up(&publisher).await;
    publisher
}

/// Waits for the link.
pub(crate) async fn up(publisher: &Publisher) {
    tokio::time::timeout(SOON, publisher.wait_up()).await.expect("the link comes up");
}

/// Waits for the link to be in this state.
pub(crate) async fn link_is(publisher: &Publisher, link: Link) {
    let probe = async || (publisher.link() == link).then_some(());
    testkit::eventually(&format!("link {link:?}"), SOON, probe).await.expect("in time");
}

/// Publishes a new booking, which must be certain in the end.
pub(crate) async fn publish_surely(publisher: &Publisher, partition: Partition) -> BookingId {
    let once = async || {
        let booking = booking();
        let id = booking.id;
        (publisher.publish(partition, booking).await == Published::Certain).then_some(id)
    };
    testkit::eventually("a certain publish", SOON, once).await.expect("in time")
}

/// Publishes this many at once and returns the certain ones.
pub(crate) async fn publish_many(
    publisher: &Publisher,
    partition: Partition,
    n: usize,
) -> Vec<BookingId> {
    let one = async |booking: Booking| {
        let id = booking.id;
        (publisher.publish(partition, booking).await == Published::Certain).then_some(id)
    };
    let results = join_all((0..n).map(|_| one(booking()))).await;
    results.into_iter().flatten().collect()
}

/// A booking with an id of its own.
pub(crate) fn booking() -> Booking {
    booking_of(Epoch(1))
}

/// A booking of this epoch.
pub(crate) fn booking_of(epoch: Epoch) -> Booking {
    static LAST: AtomicI64 = AtomicI64::new(1_000);
    let id = LAST.fetch_add(1, Ordering::Relaxed);
    let (slot, patient) = (SlotId::from(19_713), PatientId::from(id));
    Booking {
        id: BookingId::from(id),
        epoch,
        slot,
        patient,
        account: AccountId::from(5),
        key: Digest::of_key(&id.to_string()),
        request: Digest::of_request(slot, patient),
        accepted_at: UnixMs(1_795_158_000_123),
    }
}

/// A barrier of partition 0.
pub(crate) fn barrier(epoch: i64, echo_of: Option<&str>) -> Message {
    let echo_of = echo_of.map(str::to_owned);
    Message::Barrier(Barrier { v: VERSION, partition: P0, epoch: Epoch(epoch), echo_of })
}

/// What a handler was told.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Batch(Partition, Vec<Delivered>),
    Drained(Epoch),
}

/// How the handler answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Ack,
    /// Refuses everything for now.
    Retry,
    /// Acknowledges all but the first message of a batch.
    RetryFirst,
    /// Does not answer, unless the mood changes.
    Hang,
    /// Acknowledges the batch in hand, and answers no other.
    AckOnce,
    /// Acknowledges batches, refuses to note the drain.
    RetryDrained,
}

/// A handler that reports what it is told, after answering.
struct Reporter {
    told: mpsc::UnboundedSender<Told>,
    mood: watch::Receiver<Mood>,
    has_acked_once: bool,
}

impl Handler for Reporter {
    async fn handle(&mut self, partition: Partition, batch: &[Delivered]) -> Vec<Verdict> {
        let _ = self.told.send(Told::Batch(partition, batch.to_vec()));
        let hangs = |mood: &Mood| match mood {
            Mood::Hang => true,
            Mood::AckOnce => self.has_acked_once,
            _ => false,
        };
        let Ok(mood) = self.mood.wait_for(|mood| !hangs(mood)).await.map(|mood| *mood) else {
            return std::future::pending().await;
        };
        self.has_acked_once |= mood == Mood::AckOnce;
        let verdict = |i| match mood {
            Mood::Retry => RETRY,
            Mood::RetryFirst if i == 0 => RETRY,
            _ => Verdict::Ack,
        };
        (0..batch.len()).map(verdict).collect()
    }

    async fn drained(&mut self, _: Partition, epoch: Epoch) -> Verdict {
        let _ = self.told.send(Told::Drained(epoch));
        if *self.mood.borrow() == Mood::RetryDrained { RETRY } else { Verdict::Ack }
    }
}

const RETRY: Verdict = Verdict::Retry { after: Duration::from_millis(20) };

/// A running consumer and what its handler was told.
pub(crate) struct Consumer {
    pub(crate) told: mpsc::UnboundedReceiver<Told>,
    pub(crate) mood: watch::Sender<Mood>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Consumer {
    pub(crate) fn start(settings: &Settings, mood: Mood) -> Self {
        Self::spawn(mood, |reporter, shutdown| {
            let settings = settings.clone();
            tokio::spawn(async move { broker::consume(&settings, P0, reporter, shutdown).await })
        })
    }

    pub(crate) fn start_parking(settings: &Settings) -> Self {
        Self::spawn(Mood::Ack, |reporter, shutdown| {
            let settings = settings.clone();
            tokio::spawn(
                async move { broker::consume_parking(&settings, reporter, shutdown).await },
            )
        })
    }

    fn spawn(
        mood: Mood,
        start: impl FnOnce(Reporter, CancellationToken) -> JoinHandle<()>,
    ) -> Self {
        let (mood, watched) = watch::channel(mood);
        let (sender, told) = mpsc::unbounded_channel();
        let shutdown = CancellationToken::new();
        let task = start(
            Reporter { told: sender, mood: watched, has_acked_once: false },
            shutdown.clone(),
        );
        Self { told, mood, shutdown, task }
    }

    pub(crate) async fn next(&mut self) -> Told {
        tokio::time::timeout(SOON, self.told.recv()).await.expect("in time").expect("still running")
    }

    /// Waits for the next batch.
    pub(crate) async fn next_batch(&mut self) -> Vec<Delivered> {
        match self.next().await {
            Told::Batch(_, batch) => batch,
            other @ Told::Drained(_) => panic!("a batch was expected, not {other:?}"),
        }
    }

    /// Takes what comes, in order, until this many different bookings came.
    pub(crate) async fn next_bookings(&mut self, n: usize) -> Vec<BookingId> {
        let mut ids: Vec<BookingId> = Vec::new();
        while ids.len() < n {
            for id in ids_of(&self.next_batch().await) {
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
        }
        ids
    }

    /// Shuts it down and waits for its end.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(SOON, self.task).await.expect("ends in time").expect("ends well");
    }

    /// Ends it as a killed process would.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// The bookings of a batch, in order.
pub(crate) fn ids_of(batch: &[Delivered]) -> Vec<BookingId> {
    let envelopes = batch.iter().flat_map(|delivered| delivered.message.as_ref());
    envelopes.flat_map(|envelope| envelope.bookings.iter().map(|booking| booking.id)).collect()
}

/// Waits until this many messages are ready in partition 0.
pub(crate) async fn depth_is(settings: &Settings, n: u32) {
    let probe = async || {
        let depths = broker::depths(settings).await.ok()?;
        (depths.bookings[0] == n).then_some(())
    };
    testkit::eventually(&format!("depth {n}"), SOON, probe).await.expect("in time");
}

/// Deletes the test's queues.
pub(crate) async fn clean(settings: &Settings) {
    delete_queues(settings).await.expect("deletes");
}

/// A bare channel, for what the crate itself never does.
pub(crate) struct Raw {
    _connection: lapin::Connection,
    pub(crate) channel: lapin::Channel,
}

/// Takes the next message of a queue and rejects it, as this crate never does: RabbitMQ dead-letters it.
pub(crate) async fn reject_one(settings: &Settings, queue: &str) {
    let raw = raw(settings).await;
    let queue = format!("{}.{queue}", settings.prefix);
    let options = lapin::options::BasicConsumeOptions::default();
    let consume = raw.channel.basic_consume(
        queue.into(),
        "".into(),
        options,
        lapin::types::FieldTable::default(),
    );
    let mut deliveries = consume.await.expect("consumes");
    let next = tokio::time::timeout(SOON, deliveries.next()).await.expect("in time");
    let delivery = next.expect("a message").expect("a delivery");
    let options = lapin::options::BasicRejectOptions { requeue: false };
    delivery.reject(options).await.expect("rejects");
    // The channel ends with this, in good order: the reject is before the close.
    raw.channel.close(200, "OK".into()).await.expect("closes");
}

/// Opens a bare channel.
pub(crate) async fn raw(settings: &Settings) -> Raw {
    use secrecy::ExposeSecret as _;
    let url = settings.url.expose_secret();
    let connection = lapin::Connection::connect(url, lapin::ConnectionProperties::default());
    let connection = connection.await.expect("connects");
    let channel = connection.create_channel().await.expect("opens");
    Raw { _connection: connection, channel }
}

/// The certification that says this, and how often it was asked.
pub(crate) fn certify(
    answer: impl Fn(&[(Partition, Epoch)]) -> Vec<bool> + Send + Sync + 'static,
) -> (broker::Certify, mpsc::UnboundedReceiver<Vec<(Partition, Epoch)>>) {
    let (sender, asked) = mpsc::unbounded_channel();
    let certify: broker::Certify = Arc::new(move |epochs: Vec<(Partition, Epoch)>| {
        let verdicts = answer(&epochs);
        let _ = sender.send(epochs);
        Box::pin(async move { verdicts })
    });
    (certify, asked)
}
