//! Publishing on a real RabbitMQ: what is certain, what is not, and that nothing hangs.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use booking::{Epoch, PartitionCount};
use broker::{Link, Published, Publisher};
use futures::FutureExt as _;
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions};
use lapin::types::FieldTable;
use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;

use crate::support::proxy::{Network, Proxy};
use crate::support::{
    Consumer, Mood, P0, P1, SOON, barrier, booking, booking_of, certify, clean, depth_is, ids_of,
    link_is, publish_many, publish_surely, publisher, raw, settings, settings_at, up,
};

/// "At once", on a busy machine.
const AT_ONCE: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_published_booking_arrives_once_and_is_gone_after_its_ack() {
    let settings = settings().await;
    let publisher = publisher(&settings).await;
    let sent = booking();
    assert_eq!(publisher.publish(P0, sent.clone()).await, Published::Certain);
    depth_is(&settings, 1).await;

    let mut consumer = Consumer::start(&settings, Mood::Ack);
    let batch = consumer.next_batch().await;
    let envelope = batch[0].message.as_ref().expect("readable");
    assert_eq!((batch.len(), &envelope.bookings), (1, &vec![sent]));
    assert_eq!(batch[0].manifest, Some(envelope.manifest()));
    assert!(!batch[0].redelivered);
    consumer.stop().await;
    // The channel is closed: an unacknowledged message would be back in the queue.
    depth_is(&settings, 0).await;
    assert_eq!(publisher.waiting(P0), 0);
    clean(&settings).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_at_once_share_envelopes_and_each_arrives() {
    let settings = settings().await;
    let (certify, mut asked) = certify(|epochs| vec![true; epochs.len()]);
    let publisher = Publisher::start(&settings, Some(certify), CancellationToken::new());
    up(&publisher).await;
    let ids: HashSet<_> = publish_many(&publisher, P0, 1_000).await.into_iter().collect();
    assert_eq!(ids.len(), 1_000, "all certain");

    let mut consumer = Consumer::start(&settings, Mood::Ack);
    let mut messages = 0;
    let mut arrived = Vec::new();
    while arrived.len() < 1_000 {
        let batch = consumer.next_batch().await;
        messages += batch.len();
        arrived.extend(ids_of(&batch));
    }
    assert_eq!(arrived.len(), 1_000, "none twice");
    assert_eq!(arrived.into_iter().collect::<HashSet<_>>(), ids);
    assert!(messages < 100, "{messages} messages for 1,000 bookings");
    let mut certified = 0;
    while asked.try_recv().is_ok() {
        certified += 1;
    }
    assert_eq!(certified, messages, "certified once per envelope");
    consumer.stop().await;
    clean(&settings).await;
}

#[tokio::test]
async fn a_confirmed_booking_is_certain_only_as_far_as_its_epoch_is_certified() {
    let settings = settings().await;
    let (certify, mut asked) =
        certify(|epochs| epochs.iter().map(|(_, epoch)| *epoch == Epoch(2)).collect());
    let publisher = Publisher::start(&settings, Some(certify), CancellationToken::new());
    up(&publisher).await;
    let (sealed, open) = tokio::join!(
        publisher.publish(P1, booking_of(Epoch(1))),
        publisher.publish(P1, booking_of(Epoch(2))),
    );
    assert_eq!((sealed, open), (Published::Uncertain, Published::Certain));
    let first = asked.recv().await.expect("asked");
    assert!(first.iter().all(|(partition, _)| *partition == P1));
    clean(&settings).await;
}

/// G3: an epoch may be sealed while the message is on its way, so it is asked for behind the confirm.
#[tokio::test]
async fn an_epoch_is_asked_for_when_its_booking_is_in_the_queue_and_not_before() {
    let settings = settings().await;
    let (queue, raw) = (format!("{}.bookings.0", settings.prefix), raw(&settings).await);
    let channel = raw.channel.clone();
    let certify: broker::Certify = Arc::new(move |epochs| {
        let (queue, channel) = (queue.as_str().into(), channel.clone());
        let count = async move { channel.queue_purge(queue, QueuePurgeOptions::default()).await };
        async move { vec![count.await.is_ok_and(|in_queue| in_queue == 1); epochs.len()] }.boxed()
    });
    let publisher = Publisher::start(&settings, Some(certify), CancellationToken::new());
    up(&publisher).await;
    for _ in 0..5 {
        assert_eq!(publisher.publish(P0, booking()).await, Published::Certain);
    }
    clean(&settings).await;
}

#[tokio::test]
async fn a_certification_that_miscounts_or_hangs_leaves_bookings_uncertain() {
    let settings = settings().await;
    let (certify, _asked) = certify(|_| vec![true, true, true]);
    let publisher = Publisher::start(&settings, Some(certify), CancellationToken::new());
    up(&publisher).await;
    assert_eq!(publisher.publish(P0, booking()).await, Published::Uncertain);

    let hang: broker::Certify = Arc::new(|_| std::future::pending().boxed());
    let publisher = Publisher::start(&settings, Some(hang), CancellationToken::new());
    up(&publisher).await;
    let started = Instant::now();
    assert_eq!(publisher.publish(P0, booking()).await, Published::Uncertain);
    let bound = Duration::from_millis(settings.confirm_timeout_ms) + Duration::from_secs(1);
    assert!(started.elapsed() < bound + AT_ONCE);
    clean(&settings).await;
}

#[tokio::test]
async fn a_booking_no_queue_takes_is_uncertain_and_the_queue_comes_back() {
    let settings = settings().await;
    let publisher = publisher(&settings).await;
    let queue = format!("{}.bookings.0", settings.prefix);
    let raw = raw(&settings).await;
    raw.channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("deletes");
    assert_eq!(publisher.publish(P0, booking()).await, Published::Uncertain);
    assert_eq!(publisher.link(), Link::Up, "the connection itself is well");
    publish_surely(&publisher, P0).await;
    clean(&settings).await;
}

#[tokio::test]
async fn without_a_server_nothing_is_certain_and_nobody_waits() {
    let url = format!("amqp://127.0.0.1:{}/%2f", testkit::free_port());
    let publisher = Publisher::start(&settings_at(&url), None, CancellationToken::new());
    let started = Instant::now();
    assert_eq!(publisher.publish(P0, booking()).await, Published::Uncertain);
    assert!(publisher.send(P0, &barrier(1, None)).await.is_err());
    assert!(started.elapsed() < AT_ONCE);
    assert_eq!(publisher.link(), Link::Down);
    assert!(broker::depths(&settings_at(&url)).await.is_err());
}

#[tokio::test]
async fn a_caller_that_vanishes_leaves_its_booking_on_the_way() {
    let settings = settings().await;
    let publisher = publisher(&settings).await;
    let sent = booking();
    // Polled once, and dropped: the client hung up.
    assert!(publisher.publish(P0, sent.clone()).now_or_never().is_none());
    let mut consumer = Consumer::start(&settings, Mood::Ack);
    assert_eq!(consumer.next_bookings(1).await, [sent.id]);
    consumer.stop().await;
    clean(&settings).await;
}

#[tokio::test]
async fn a_silent_server_costs_one_timeout_and_a_full_backlog_nothing() {
    let mut settings = settings().await;
    let proxy = Proxy::start(settings.url.expose_secret()).await;
    let direct = settings.clone();
    settings.url = proxy.url.as_str().into();
    settings.confirm_timeout_ms = 500;
    settings.waiting_max = 3;
    let publisher = publisher(&settings).await;
    publish_surely(&publisher, P0).await;

    proxy.set(Network::Stalled);
    let started = Instant::now();
    let waiting = publish_many(&publisher, P0, 3);
    tokio::pin!(waiting);
    assert!((&mut waiting).now_or_never().is_none());
    assert_eq!(publisher.waiting(P0), 3);
    assert_eq!(publisher.publish(P0, booking()).await, Published::Uncertain);
    assert!(started.elapsed() < AT_ONCE, "refused at once");
    assert!(waiting.await.is_empty());
    assert!(started.elapsed() < Duration::from_millis(500) + Duration::from_secs(1) + AT_ONCE);

    proxy.set(Network::Works);
    publish_surely(&publisher, P0).await;
    clean(&direct).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_comes_back_and_no_certain_booking_is_lost() {
    let mut settings = settings().await;
    let direct = settings.clone();
    let proxy = Proxy::start(settings.url.expose_secret()).await;
    settings.url = proxy.url.as_str().into();
    let publisher = publisher(&settings).await;
    let mut certain = HashSet::new();
    for _ in 0..5 {
        up(&publisher).await;
        let (ids, ()) = tokio::join!(publish_many(&publisher, P0, 300), async {
            publish_surely(&publisher, P1).await;
            proxy.set(Network::Cut);
        });
        certain.extend(ids);
        link_is(&publisher, Link::Down).await;
        assert_eq!(publisher.publish(P0, booking()).await, Published::Uncertain);
        let back = Instant::now();
        proxy.set(Network::Works);
        up(&publisher).await;
        assert!(back.elapsed() < Duration::from_secs(2), "back within 2 s: {:?}", back.elapsed());
    }
    certain.insert(publish_surely(&publisher, P0).await);
    let mut consumer = Consumer::start(&direct, Mood::Ack);
    let mut arrived = HashSet::new();
    while !certain.is_subset(&arrived) {
        arrived.extend(ids_of(&consumer.next_batch().await));
    }
    consumer.stop().await;
    clean(&direct).await;
}

#[tokio::test]
async fn whole_messages_are_confirmed_too() {
    let settings = settings().await;
    let publisher = publisher(&settings).await;
    publisher.send(P0, &barrier(1, None)).await.expect("confirmed");
    let envelope = booking::message::Message::Envelope(booking::Envelope::new(vec![booking()]));
    publisher.send(P0, &envelope).await.expect("confirmed");
    depth_is(&settings, 2).await;
    clean(&settings).await;
}

#[tokio::test]
async fn declaring_twice_is_harmless_and_a_foreign_queue_in_the_way_is_not_used() {
    let mut settings = settings().await;
    settings.partitions = PartitionCount::new(1).expect("in range");
    let raw = raw(&settings).await;
    let name = format!("{}.bookings.0", settings.prefix);
    let classic = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let declare = raw.channel.queue_declare(name.as_str().into(), classic, FieldTable::default());
    declare.await.expect("declares");
    let refused = Publisher::start(&settings, None, CancellationToken::new());
    // The parking queue is declared before the one in the way: by then the refusal is near.
    let parked = async || broker::depths(&settings).await.ok();
    testkit::eventually("the first declarations", SOON, parked).await.expect("in time");
    assert_eq!(refused.publish(P0, booking()).await, Published::Uncertain);

    let delete = raw.channel.queue_delete(name.into(), QueueDeleteOptions::default());
    delete.await.expect("deletes");
    up(&refused).await;
    let second = publisher(&settings).await;
    publish_surely(&refused, P0).await;
    publish_surely(&second, P0).await;
    clean(&settings).await;
}

#[tokio::test]
async fn after_a_shutdown_what_waits_is_sent_and_nothing_more_is_taken() {
    let settings = settings().await;
    let shutdown = CancellationToken::new();
    let publisher = Publisher::start(&settings, None, shutdown.clone());
    up(&publisher).await;
    let waiting = publish_many(&publisher, P0, 200);
    tokio::pin!(waiting);
    assert!((&mut waiting).now_or_never().is_none());
    shutdown.cancel();
    assert_eq!(publisher.publish(P0, booking()).await, Published::Uncertain);
    assert_eq!(waiting.await.len(), 200);
    link_is(&publisher, Link::Down).await;
    clean(&settings).await;
}
