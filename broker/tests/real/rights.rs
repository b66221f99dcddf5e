//! The programs' own users of RabbitMQ: they can do their work, and nothing else.

use std::fmt::Debug;

use booking::Epoch;
use broker::{Publisher, Settings};
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ExchangeDeleteOptions,
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, ErrorKind};
use tokio_util::sync::CancellationToken;

use crate::support::{
    Consumer, Mood, P0, Raw, Told, barrier, clean, depth_is, publish_surely, publisher, raw,
    reject_one, settings, up,
};

/// The same queues as the gateway's user, and as the worker's.
fn as_programs(owner: &Settings) -> (Settings, Settings) {
    use secrecy::ExposeSecret as _;
    let (gateway, worker) = testkit::amqp_programs(owner.url.expose_secret()).expect("a password");
    let with = |url: String| Settings { url: url.into(), ..owner.clone() };
    (with(gateway), with(worker))
}

#[tokio::test]
async fn the_programs_work_with_their_own_users() {
    let owner = settings().await;
    broker::declare_queues(&owner).await.expect("declared");
    let (gateway, worker) = as_programs(&owner);
    let publisher = publisher(&gateway).await;
    let id = publish_surely(&publisher, P0).await;
    let mut consumer = Consumer::start(&worker, Mood::Ack);
    assert_eq!(consumer.next_bookings(1).await, [id]);

    // A barrier, and the consumer's own echo of it.
    let relay = Publisher::start(&worker, None, CancellationToken::new());
    up(&relay).await;
    relay.send(P0, &barrier(1, None)).await.expect("confirmed");
    assert!(matches!(consumer.next().await, Told::Drained(Epoch(1))));
    consumer.stop().await;
    assert_eq!(broker::depths(&worker).await.expect("asked").bookings, [0, 0]);

    // What RabbitMQ dead-letters is read as well.
    let id = publish_surely(&publisher, P0).await;
    reject_one(&owner, "bookings.0").await;
    let mut parking = Consumer::start_parking(&worker);
    assert_eq!(parking.next_bookings(1).await, [id]);
    parking.stop().await;
    clean(&owner).await;
}

#[tokio::test]
async fn a_program_cannot_do_what_only_the_other_one_or_the_owner_does() {
    let owner = settings().await;
    broker::declare_queues(&owner).await.expect("declared");
    let (gateway, worker) = as_programs(&owner);
    let (exchange, parking) = (owner.prefix.as_str(), format!("{}.parking", owner.prefix));
    let queue = format!("{}.bookings.0", owner.prefix);
    publish_surely(&publisher(&gateway).await, P0).await;

    for program in [&gateway, &worker] {
        refused(program, async |c| {
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            c.queue_declare("another.bookings".into(), options, FieldTable::default()).await
        })
        .await;
        // Past the exchange, straight into a queue.
        refused(program, async |c| publish(c, "", &queue).await).await;
        // Another virtual host.
        let url = secrecy::ExposeSecret::expose_secret(&program.url).replace("/%2f", "/other");
        let login = lapin::Connection::connect(&url, lapin::ConnectionProperties::default()).await;
        assert!(login.is_err(), "{login:?}");
    }
    refused(&gateway, async |c| {
        c.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await
    })
    .await;
    refused(&gateway, async |c| {
        c.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await
    })
    .await;
    refused(&gateway, async |c| {
        let (options, key) = (QueueBindOptions::default(), "bookings.1".into());
        let arguments = FieldTable::default();
        c.queue_bind(queue.as_str().into(), exchange.into(), key, options, arguments).await
    })
    .await;
    refused(&gateway, async |c| publish(c, &parking, &queue).await).await;
    refused(&gateway, async |c| {
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        c.basic_consume(queue.as_str().into(), "".into(), options, arguments).await
    })
    .await;
    refused(&gateway, async |c| {
        c.basic_get(queue.as_str().into(), BasicGetOptions::default()).await
    })
    .await;
    refused(&gateway, async |c| {
        c.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await
    })
    .await;
    depth_is(&owner, 1).await;
    clean(&owner).await;
}

/// Nobody has to get up at night for a queue that was deleted.
#[tokio::test]
async fn a_gateway_waits_for_the_queues_until_a_worker_declares_them() {
    let owner = settings().await;
    let (gateway, worker) = as_programs(&owner);
    let waiting = Publisher::start(&gateway, None, CancellationToken::new());
    let published = waiting.publish(P0, crate::support::booking()).await;
    assert_eq!(published, broker::Published::Uncertain);
    assert!(broker::depths(&owner).await.is_err(), "nothing was declared");
    let relay = Publisher::start(&worker, None, CancellationToken::new());
    up(&relay).await;
    let mut consumer = Consumer::start(&worker, Mood::Ack);
    let first = publish_surely(&waiting, P0).await;
    assert_eq!(consumer.next_bookings(1).await, [first]);

    let queue = format!("{}.bookings.0", owner.prefix);
    let Raw { channel, .. } = &raw(&owner).await;
    let deleted = channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await;
    deleted.expect("deleted");
    let second = publish_surely(&waiting, P0).await;
    assert_eq!(consumer.next_bookings(1).await, [second]);
    consumer.stop().await;
    clean(&owner).await;
}

async fn publish(channel: &Channel, exchange: &str, key: &str) -> lapin::Result<()> {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let sent = channel.basic_publish(exchange.into(), key.into(), options, b"?", properties);
    sent.await?;
    // The refusal closes the channel, which the next call on it shows.
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(key.into(), options, FieldTable::default()).await.map(drop)
}

/// It is refused for want of the right, on a channel of its own.
async fn refused<T: Debug>(
    program: &Settings,
    what: impl AsyncFnOnce(&Channel) -> lapin::Result<T>,
) {
    let Raw { channel, .. } = &raw(program).await;
    let error = what(channel).await.expect_err("refused");
    let is_denied =
        matches!(error.kind(), ErrorKind::ProtocolError(e) if e.get_id() == ACCESS_REFUSED);
    assert!(is_denied || !channel.status().connected(), "{error}");
}

const ACCESS_REFUSED: u16 = 403;
