//! Consuming on a real RabbitMQ: nothing is lost, nothing is skipped, whatever dies.

use std::time::Duration;

use booking::Envelope;
use booking::message::Message;
use broker::{Delivered, Verdict};
use futures::future::join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;

use crate::support::proxy::Proxy;
use crate::support::{
    Consumer, Mood, P0, P1, SOON, Told, booking, clean, depth_is, ids_of, publish_surely,
    publisher, raw, reject_one, settings,
};

#[tokio::test]
async fn what_a_dead_worker_did_not_acknowledge_comes_again() {
    let settings = settings().await;
    let publisher = publisher(&settings).await;
    let id = publish_surely(&publisher, P0).await;
    let mut dying = Consumer::start(&settings, Mood::Hang);
    assert_eq!(dying.next_bookings(1).await, [id]);
    dying.kill().await;

    let mut next = Consumer::start(&settings, Mood::Ack);
    let batch = next.next_batch().await;
    assert_eq!(ids_of(&batch), [id]);
    assert!(batch[0].redelivered);
    next.stop().await;
    depth_is(&settings, 0).await;
    clean(&settings).await;
}

#[tokio::test]
async fn a_refused_batch_is_asked_again_and_holds_back_what_is_behind_it() {
    let mut settings = settings().await;
    settings.prefetch = 2;
    let publisher = publisher(&settings).await;
    let mut sent = Vec::new();
    for _ in 0..5 {
        sent.push(publish_surely(&publisher, P0).await);
    }
    let mut consumer = Consumer::start(&settings, Mood::Retry);
    let first = ids_of(&consumer.next_batch().await);
    for _ in 0..5 {
        assert_eq!(ids_of(&consumer.next_batch().await), first, "the same again");
    }
    consumer.mood.send_replace(Mood::Ack);
    let mut order = first;
    while order.len() < 5 {
        let ids = ids_of(&consumer.next_batch().await);
        order.extend(ids.into_iter().filter(|id| !order.contains(id)).collect::<Vec<_>>());
    }
    assert_eq!(order, sent);
    consumer.stop().await;
    clean(&settings).await;
}

#[tokio::test]
async fn of_a_batch_only_what_is_done_with_is_acknowledged() {
    let mut settings = settings().await;
    // Long enough that both are in one batch; both are there before it begins.
    settings.batch_wait_ms = 1_000;
    settings.prefetch = 2;
    let publisher = publisher(&settings).await;
    let (first, second) =
        (publish_surely(&publisher, P0).await, publish_surely(&publisher, P0).await);
    let mut consumer = Consumer::start(&settings, Mood::RetryFirst);
    assert_eq!(ids_of(&consumer.next_batch().await), [first, second]);
    assert_eq!(ids_of(&consumer.next_batch().await), [first]);
    consumer.kill().await;
    let mut next = Consumer::start(&settings, Mood::Ack);
    assert_eq!(ids_of(&next.next_batch().await), [first]);
    next.stop().await;
    depth_is(&settings, 0).await;
    clean(&settings).await;
}

/// The race: the next batch is read while the one before is decided over.
#[tokio::test]
async fn what_is_read_ahead_is_not_acknowledged_with_what_came_before() {
    let mut settings = settings().await;
    settings.batch_bookings_max = 1;
    let publisher = publisher(&settings).await;
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.push(publish_surely(&publisher, P0).await);
    }
    let mut consumer = Consumer::start(&settings, Mood::Hang);
    assert_eq!(consumer.next_bookings(1).await, sent[..1]);
    // All are delivered: none is ready for another.
    depth_is(&settings, 0).await;
    consumer.mood.send_replace(Mood::AckOnce);
    assert_eq!(consumer.next_bookings(1).await, sent[1..2]);
    consumer.kill().await;
    let mut next = Consumer::start(&settings, Mood::Ack);
    assert_eq!(next.next_bookings(2).await, sent[1..], "in the order they had");
    next.stop().await;
    depth_is(&settings, 0).await;
    clean(&settings).await;
}

#[tokio::test]
async fn a_batch_holds_no_more_bookings_than_it_may() {
    let mut settings = settings().await;
    settings.batch_bookings_max = 10;
    settings.batch_wait_ms = 1_000;
    let publisher = publisher(&settings).await;
    for size in [4, 4, 4, 12, 1] {
        let envelope = Envelope::new((0..size).map(|_| booking()).collect());
        publisher.send(P0, &Message::Envelope(envelope)).await.expect("confirmed");
    }
    let mut consumer = Consumer::start(&settings, Mood::Ack);
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < 25 {
        sizes.push(ids_of(&consumer.next_batch().await).len());
    }
    assert_eq!(sizes, [8, 4, 12, 1], "and an envelope is never split");
    consumer.stop().await;
    clean(&settings).await;
}

#[tokio::test]
async fn what_cannot_be_read_is_handed_over_with_body_and_manifest() {
    let settings = settings().await;
    let publisher = publisher(&settings).await;
    let raw = raw(&settings).await;
    raw.channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    let mut headers = FieldTable::default();
    headers.insert("x-slotrush-manifest".into(), AMQPValue::LongString("7:1:9".into()));
    let properties = BasicProperties::default()
        .with_type(booking::message::TYPE_ENVELOPE.into())
        .with_headers(headers);
    send_raw(&raw.channel, &settings.prefix, "bookings.0", b"not json", properties).await;
    send_raw(&raw.channel, &settings.prefix, "bookings.0", b"", BasicProperties::default()).await;
    let foreign = BasicProperties::default().with_type(booking::message::TYPE_BARRIER.into());
    let body = br#"{"v":1,"partition":1,"epoch":3}"#;
    send_raw(&raw.channel, &settings.prefix, "bookings.0", body, foreign).await;
    let last = publish_surely(&publisher, P0).await;

    let mut consumer = Consumer::start(&settings, Mood::Ack);
    let mut came: Vec<Delivered> = Vec::new();
    while came.len() < 4 {
        came.extend(consumer.next_batch().await);
    }
    assert!(came[0].message.as_ref().is_err_and(|why| why.contains("malformed")));
    assert_eq!(
        (came[0].body.as_slice(), came[0].manifest.as_deref()),
        (&b"not json"[..], Some("7:1:9"))
    );
    assert!(came[1].message.is_err() && came[1].manifest.is_none());
    assert!(came[2].message.as_ref().is_err_and(|why| why.contains("another partition")));
    assert_eq!(ids_of(&came), [last]);
    consumer.stop().await;
    depth_is(&settings, 0).await;
    clean(&settings).await;
}

#[tokio::test]
async fn a_queue_deleted_under_its_consumer_is_built_again() {
    let settings = settings().await;
    let publisher = publisher(&settings).await;
    let mut consumer = Consumer::start(&settings, Mood::Ack);
    let before = publish_surely(&publisher, P0).await;
    assert_eq!(consumer.next_bookings(1).await, [before]);
    let queue = format!("{}.bookings.0", settings.prefix);
    let raw = raw(&settings).await;
    raw.channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("deletes");
    let after = publish_surely(&publisher, P0).await;
    assert_eq!(consumer.next_bookings(1).await, [after]);
    consumer.stop().await;
    clean(&settings).await;
}

#[tokio::test]
async fn a_consumer_cut_off_while_it_waits_or_works_goes_on() {
    let settings = settings().await;
    let proxy = Proxy::start(settings.url.expose_secret()).await;
    let mut behind = settings.clone();
    behind.url = proxy.url.as_str().into();
    let publisher = publisher(&settings).await;
    let mut consumer = Consumer::start(&behind, Mood::Ack);
    let first = publish_surely(&publisher, P0).await;
    assert_eq!(consumer.next_bookings(1).await, [first]);
    // While it waits.
    proxy.cut_once().await;
    let second = publish_surely(&publisher, P0).await;
    // The ack of the first may have been cut off: it may come again before.
    while !ids_of(&consumer.next_batch().await).contains(&second) {}
    // While it is to ask again: the old life's delivery is given up, not acknowledged elsewhere.
    consumer.mood.send_replace(Mood::Retry);
    let third = publish_surely(&publisher, P0).await;
    while !ids_of(&consumer.next_batch().await).contains(&third) {}
    proxy.cut_once().await;
    let redelivered = async |consumer: &mut Consumer| {
        while !consumer.next_batch().await.iter().any(|delivered| delivered.redelivered) {}
    };
    tokio::time::timeout(SOON, redelivered(&mut consumer)).await.expect("comes again");
    consumer.mood.send_replace(Mood::Ack);
    // Nothing is read before the third is acknowledged, so the fourth tells that it is.
    let fourth = publish_surely(&publisher, P0).await;
    while !ids_of(&consumer.next_batch().await).contains(&fourth) {}
    consumer.stop().await;
    depth_is(&settings, 0).await;
    clean(&settings).await;
}

#[tokio::test]
async fn a_shutdown_finishes_the_batch_in_hand_and_leaves_the_rest() {
    let mut settings = settings().await;
    settings.prefetch = 1;
    let publisher = publisher(&settings).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(publish_surely(&publisher, P0).await);
    }
    let (shutdown, begun) = (CancellationToken::new(), CancellationToken::new());
    let handler = Slow { begun: begun.clone(), shutdown: shutdown.clone() };
    let task = {
        let (settings, shutdown) = (settings.clone(), shutdown.clone());
        tokio::spawn(async move { broker::consume(&settings, P0, handler, shutdown).await })
    };
    tokio::time::timeout(SOON, begun.cancelled()).await.expect("begins");
    shutdown.cancel();
    tokio::time::timeout(SOON, task).await.expect("ends in time").expect("ends well");
    depth_is(&settings, 2).await;
    let mut next = Consumer::start(&settings, Mood::Ack);
    assert_eq!(next.next_bookings(2).await, ids[1..]);
    next.stop().await;
    clean(&settings).await;
}

/// A handler in whose hands the shutdown comes.
struct Slow {
    begun: CancellationToken,
    shutdown: CancellationToken,
}

impl broker::Handler for Slow {
    async fn handle(&mut self, _: booking::Partition, batch: &[Delivered]) -> Vec<Verdict> {
        self.begun.cancel();
        self.shutdown.cancelled().await;
        tokio::task::yield_now().await;
        vec![Verdict::Ack; batch.len()]
    }

    async fn drained(&mut self, _: booking::Partition, _: booking::Epoch) -> Verdict {
        Verdict::Ack
    }
}

#[tokio::test]
async fn a_second_consumer_waits_until_the_first_one_is_gone() {
    let settings = settings().await;
    let publisher = publisher(&settings).await;
    let mut first = Consumer::start(&settings, Mood::Ack);
    let ids = [publish_surely(&publisher, P0).await, publish_surely(&publisher, P0).await];
    assert_eq!(first.next_bookings(2).await, ids);
    let mut second = Consumer::start(&settings, Mood::Ack);
    let sent = join_all((0..20).map(|_| publish_surely(&publisher, P0))).await;
    let got = first.next_bookings(20).await;
    assert_eq!(got.len(), sent.len());
    assert!(second.told.try_recv().is_err());
    first.stop().await;
    let last = publish_surely(&publisher, P0).await;
    assert_eq!(second.next_bookings(1).await, [last]);
    second.stop().await;
    clean(&settings).await;
}

#[tokio::test]
async fn a_dead_letter_is_found_in_parking_with_its_partition() {
    let settings = settings().await;
    let publisher = publisher(&settings).await;
    let id = publish_surely(&publisher, P1).await;
    reject_one(&settings, "bookings.1").await;
    let mut consumer = Consumer::start_parking(&settings);
    match consumer.next().await {
        Told::Batch(partition, batch) => assert_eq!((partition, ids_of(&batch)), (P1, vec![id])),
        other @ Told::Drained(_) => panic!("{other:?}"),
    }
    consumer.stop().await;
    let empty = async || {
        let depths = broker::depths(&settings).await.ok()?;
        (depths.parking == 0 && depths.bookings == [0, 0]).then_some(())
    };
    testkit::eventually("empty queues", Duration::from_secs(10), empty).await.expect("in time");
    clean(&settings).await;
}

async fn send_raw(
    channel: &Channel,
    exchange: &str,
    key: &str,
    body: &[u8],
    properties: BasicProperties,
) {
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish(exchange.into(), key.into(), options, body, properties);
    let confirmation = sent.await.expect("sends").await.expect("confirms");
    assert!(confirmation.is_ack());
}
