//! The usual worker: one message, one transaction, optimistic retry, then the ack.

use std::io::stdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use booking::{PatientId, SessionId, SlotId};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout_at;

use crate::settings::{Fill, Probe, Work};
use crate::{tables, ways};

const PERSISTENT: u8 = 2;
/// Confirms waited for at once.
const UNCONFIRMED_MAX: usize = 1_000;
/// How often a transaction is tried again because another one was faster.
const RETRIES_MAX: u32 = 10_000;
const READ: &str = "SELECT version, capacity - booked FROM slot WHERE id = $1";
const COUNT: &str = "
    UPDATE slot SET booked = booked + 1, version = version + 1
    WHERE id = $1 AND version = $2";

/// A booking as it travels.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Booking {
    slot: SlotId,
    patient: PatientId,
}

/// What the worker did.
#[derive(Debug, Serialize)]
struct Report {
    /// Bookings persisted and acknowledged.
    persisted: u64,
    /// Transactions that began again because another one had changed the slot.
    retries: u64,
    /// From the first delivery to the last commit, ms.
    elapsed_ms: f64,
}

/// Declares the queue and publishes the bookings; returns when all are confirmed.
pub(crate) async fn fill(fill: &Fill) -> anyhow::Result<()> {
    let (_connection, channel) = open(&fill.queue.amqp_url).await?;
    declare(&channel, &fill.queue.queue).await?;
    let persistent = BasicProperties::default().with_delivery_mode(PERSISTENT);
    let slots = fill.offer.sessions * fill.offer.slots;
    let mut confirms = Vec::with_capacity(UNCONFIRMED_MAX);
    for number in 0..fill.bookings {
        let slot = number % slots;
        let session = SessionId::from(i64::from(slot / fill.offer.slots) + 1);
        let place = u8::try_from(slot % fill.offer.slots)?;
        let patient = PatientId::from(i64::from(number) + 1);
        let body = serde_json::to_vec(&Booking { slot: SlotId::of(session, place), patient })?;
        let confirm = channel
            .basic_publish(
                "".into(),
                fill.queue.queue.as_str().into(),
                BasicPublishOptions::default(),
                &body,
                persistent.clone(),
            )
            .await?;
        confirms.push(confirm);
        if confirms.len() == UNCONFIRMED_MAX || number + 1 == fill.bookings {
            for confirm in confirms.drain(..) {
                if !confirm.await?.is_ack() {
                    bail!("the broker did not take a message");
                }
            }
        }
    }
    Ok(())
}

/// Publishes a message again and again, each time when it is due whatever became of those before, and prints the
/// 99th percentile of how long their confirms took from then: a broker that stands still is seen in every
/// message that was due meanwhile. Says "ready" first and begins with a line of input, or its end.
pub(crate) async fn probe(probe: &Probe) -> anyhow::Result<()> {
    let (_connection, channel) = open(&probe.amqp_url).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_type(probe.kind.as_str().into());
    println!("ready");
    spawn_blocking(|| stdin().read_line(&mut String::new())).await??;
    let began = Instant::now();
    let counted_from = began + Duration::from_secs_f64(probe.warm_up_seconds);
    let until = began + Duration::from_secs_f64(probe.seconds);
    let mut clock = ticks(began, Duration::from_millis(probe.every_ms.max(1)), until);
    let (mut under_way, mut took) = (FuturesUnordered::new(), Vec::new());
    let mut is_over = false;
    while !is_over || !under_way.is_empty() {
        tokio::select! {
            biased;
            Some((due, confirmed)) = under_way.next() => {
                let (due, confirmed): (Instant, Confirmation) = (due, confirmed?);
                if !matches!(confirmed, Confirmation::Ack(None)) {
                    bail!("no queue took a message");
                }
                if due >= counted_from {
                    took.push(due.elapsed());
                }
            }
            due = clock.recv(), if !is_over => {
                let Some(due) = due else {
                    is_over = true;
                    continue;
                };
                if under_way.len() >= UNCONFIRMED_MAX {
                    bail!("the broker confirms nothing");
                }
                let confirm = channel
                    .basic_publish(
                        probe.exchange.as_str().into(),
                        probe.routing_key.as_str().into(),
                        BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() },
                        probe.body.as_bytes(),
                        properties.clone(),
                    )
                    .await?;
                under_way.push(async move { (due, confirm.await) });
            }
        }
    }
    took.sort_unstable();
    let p99 = took.get(took.len() * 99 / 100).context("no message was sent")?;
    println!("{}", p99.as_secs_f64() * 1_000.0);
    Ok(())
}

/// Tells when each message is due. A thread of its own, because the runtime's timer goes by whole
/// milliseconds: too coarse beside goals of one to five.
fn ticks(first: Instant, every: Duration, until: Instant) -> mpsc::UnboundedReceiver<Instant> {
    let (tell, told) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let mut due = first;
        while due < until && tell.send(due).is_ok() {
            due += every;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    });
    told
}

/// Persists what is in the queue and prints one JSON object.
pub(crate) async fn run(work: &Work) -> anyhow::Result<()> {
    let pool = tables::connect(&work.database).await?;
    let (_connection, channel) = open(&work.queue.amqp_url).await?;
    let prefetch = work.at_once.saturating_mul(4);
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let mut deliveries = channel
        .basic_consume(
            work.queue.queue.as_str().into(),
            "direct".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let retries = Arc::new(AtomicU64::new(0));
    let mut running: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let first = deliveries.next().await.context("the queue is gone")??;
    let started = Instant::now();
    let until = tokio::time::Instant::now() + Duration::from_secs_f64(work.seconds);
    running.spawn(persist(pool.clone(), Arc::clone(&retries), first));
    let mut begun = 1;
    let mut persisted = 0;
    while begun < work.bookings {
        if running.len() >= usize::from(work.at_once)
            && let Some(done) = running.join_next().await
        {
            done??;
            persisted += 1;
        }
        let Ok(next) = timeout_at(until, deliveries.next()).await else { break };
        let delivery = next.context("the queue is gone")??;
        running.spawn(persist(pool.clone(), Arc::clone(&retries), delivery));
        begun += 1;
    }
    while let Some(done) = running.join_next().await {
        done??;
        persisted += 1;
    }
    let elapsed_ms = started.elapsed().as_secs_f64() * 1_000.0;
    channel.queue_delete(work.queue.queue.as_str().into(), QueueDeleteOptions::default()).await?;
    let report = Report { persisted, retries: retries.load(Ordering::Relaxed), elapsed_ms };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

async fn declare(channel: &Channel, queue: &str) -> anyhow::Result<()> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), options, arguments).await?;
    Ok(())
}

async fn open(amqp_url: &str) -> anyhow::Result<(Connection, Channel)> {
    let connection = Connection::connect(amqp_url, ConnectionProperties::default())
        .await
        .context("cannot reach RabbitMQ")?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

async fn persist(pool: PgPool, retries: Arc<AtomicU64>, delivery: Delivery) -> anyhow::Result<()> {
    let booking: Booking = serde_json::from_slice(&delivery.data)?;
    for _ in 0..RETRIES_MAX {
        if persist_once(&pool, booking).await? {
            delivery.ack(BasicAckOptions::default()).await?;
            return Ok(());
        }
        retries.fetch_add(1, Ordering::Relaxed);
    }
    bail!("others were faster {RETRIES_MAX} times")
}

/// Tries once; false if another one changed the slot meanwhile.
async fn persist_once(pool: &PgPool, Booking { slot, patient }: Booking) -> anyhow::Result<bool> {
    let mut transaction = pool.begin().await?;
    let (version, free): (i64, i32) =
        sqlx::query_as(READ).bind(slot.get()).fetch_one(&mut *transaction).await?;
    if free < 1 {
        bail!("the slot is full");
    }
    ways::insert(&mut transaction, slot, patient).await?;
    let counted = sqlx::query(COUNT).bind(slot.get()).bind(version);
    if counted.execute(&mut *transaction).await?.rows_affected() == 0 {
        transaction.rollback().await?;
        return Ok(false);
    }
    transaction.commit().await?;
    Ok(true)
}
