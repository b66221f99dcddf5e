//! Barriers: an epoch is drained only when everything published before its seal came through.

use std::time::Duration;

use booking::{BookingId, Epoch};
use broker::{Publisher, Settings};
use secrecy::ExposeSecret as _;

use crate::support::proxy::Proxy;
use crate::support::{
    Consumer, Mood, P0, Told, barrier, clean, depth_is, ids_of, publish_surely, publisher,
    reject_one, settings,
};

#[tokio::test]
async fn a_barrier_waits_for_everything_before_it_and_drains_once_through_its_echo() {
    let settings = settings().await;
    let publisher = publisher(&settings).await;
    let before = [publish_surely(&publisher, P0).await, publish_surely(&publisher, P0).await];
    publisher.send(P0, &barrier(7, None)).await.expect("confirmed");
    let mut consumer = Consumer::start(&settings, Mood::Retry);
    for _ in 0..5 {
        // Only ever what is before the barrier, however often it is refused.
        consumer.next_batch().await;
    }
    consumer.mood.send_replace(Mood::Ack);
    let (seen, epoch) = until_drained(&mut consumer).await;
    assert_eq!(epoch, Epoch(7));
    assert!(before.iter().all(|id| seen.contains(id)));
    depth_is(&settings, 0).await;
    consumer.stop().await;
    depth_is(&settings, 0).await;
    clean(&settings).await;
}

#[tokio::test]
async fn an_echo_of_another_life_is_echoed_again_and_only_the_own_one_drains() {
    let settings = settings().await;
    let publisher = publisher(&settings).await;
    publisher.send(P0, &barrier(3, Some("another life"))).await.expect("confirmed");
    let behind = publish_surely(&publisher, P0).await;
    let mut consumer = Consumer::start(&settings, Mood::Ack);
    // The own echo goes to the end of the queue, so what is behind the foreign one comes first.
    let (seen, epoch) = until_drained(&mut consumer).await;
    assert_eq!((seen, epoch), (vec![behind], Epoch(3)));
    consumer.stop().await;
    depth_is(&settings, 0).await;
    assert!(matches!(drained_left(&settings, &publisher).await, 0));
    clean(&settings).await;
}

#[tokio::test]
async fn a_drain_that_could_not_be_noted_is_told_again() {
    let settings = settings().await;
    let publisher = publisher(&settings).await;
    publisher.send(P0, &barrier(5, None)).await.expect("confirmed");
    let mut consumer = Consumer::start(&settings, Mood::RetryDrained);
    for _ in 0..3 {
        assert!(matches!(consumer.next().await, Told::Drained(Epoch(5))));
    }
    // Not acknowledged: whoever comes next meets it as a foreign echo, and drains with its own.
    consumer.kill().await;
    let mut next = Consumer::start(&settings, Mood::Ack);
    assert_eq!(until_drained(&mut next).await, (vec![], Epoch(5)));
    next.stop().await;
    depth_is(&settings, 0).await;
    clean(&settings).await;
}

/// The race: a consumer with unacknowledged messages ends while another one stands by. Cancelled
/// instead of cut, it lets the other one have the barrier first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_hand_over_the_barrier_does_not_overtake_what_was_not_acknowledged() {
    let settings = settings().await;
    let publisher = publisher(&settings).await;
    for round in 0..10 {
        let (mut first, proxy) = behind_proxy(&settings, Mood::Hang).await;
        let before = [publish_surely(&publisher, P0).await, publish_surely(&publisher, P0).await];
        publisher.send(P0, &barrier(round, None)).await.expect("confirmed");
        first.next_batch().await;
        let (mut second, _proxy) = behind_proxy(&settings, Mood::Ack).await;
        first.kill().await;
        let (seen, epoch) = until_drained(&mut second).await;
        assert_eq!((seen, epoch), (before.to_vec(), Epoch(round)), "round {round}");
        second.stop().await;
        // The barrier's echo would save a quick cancel as well; none must be sent at all.
        assert_eq!(proxy.cancels().await, 0, "round {round}");
    }
    depth_is(&settings, 0).await;
    clean(&settings).await;
}

/// A shutdown closes the channel with messages unacknowledged: the same race, in good order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_while_a_batch_is_refused_hands_over_without_overtaking() {
    let settings = settings().await;
    let publisher = publisher(&settings).await;
    for round in 0..10 {
        let (mut first, proxy) = behind_proxy(&settings, Mood::Retry).await;
        let before = [publish_surely(&publisher, P0).await, publish_surely(&publisher, P0).await];
        publisher.send(P0, &barrier(round, None)).await.expect("confirmed");
        first.next_batch().await;
        let (mut second, _proxy) = behind_proxy(&settings, Mood::Ack).await;
        first.stop().await;
        let (seen, epoch) = until_drained(&mut second).await;
        assert_eq!((seen, epoch), (before.to_vec(), Epoch(round)), "round {round}");
        second.stop().await;
        assert_eq!(proxy.cancels().await, 0, "round {round}");
    }
    clean(&settings).await;
}

#[tokio::test]
async fn a_barrier_that_was_dead_lettered_is_dropped_from_parking() {
    let settings = settings().await;
    let publisher = publisher(&settings).await;
    publisher.send(P0, &barrier(1, None)).await.expect("confirmed");
    reject_one(&settings, "bookings.0").await;
    parking_is(&settings, 1).await;
    let behind = publish_surely(&publisher, P0).await;
    reject_one(&settings, "bookings.0").await;
    parking_is(&settings, 2).await;
    // That nothing is ready would not show it: a message under way is not ready either, and a stop
    // gives it back. The booking behind the barrier is refused, so its own ack can't cover for the
    // barrier's: after the stop it is in parking, alone.
    let mut consumer = Consumer::start_parking(&settings);
    consumer.mood.send_replace(Mood::Retry);
    assert_eq!(ids_of(&consumer.next_batch().await), [behind]);
    consumer.stop().await;
    parking_is(&settings, 1).await;
    clean(&settings).await;
}

/// Takes what comes until a drain is told: what came before it, and its epoch.
async fn until_drained(consumer: &mut Consumer) -> (Vec<BookingId>, Epoch) {
    let mut seen = Vec::new();
    loop {
        match consumer.next().await {
            Told::Batch(_, batch) => seen.extend(ids_of(&batch)),
            Told::Drained(epoch) => return (seen, epoch),
        }
    }
}

/// Counts the drains told for what is still in the queue: a new booking must come first, and alone.
async fn drained_left(settings: &Settings, publisher: &Publisher) -> usize {
    let last = publish_surely(publisher, P0).await;
    let mut consumer = Consumer::start(settings, Mood::Ack);
    let mut drains = 0;
    loop {
        match consumer.next().await {
            Told::Batch(_, batch) if ids_of(&batch).contains(&last) => break,
            Told::Batch(..) => {}
            Told::Drained(_) => drains += 1,
        }
    }
    consumer.stop().await;
    drains
}

/// Starts a consumer and waits until the server has taken it.
async fn behind_proxy(settings: &Settings, mood: Mood) -> (Consumer, Proxy) {
    let proxy = Proxy::start(settings.url.expose_secret()).await;
    let mut behind = settings.clone();
    behind.url = proxy.url.as_str().into();
    let consumer = Consumer::start(&behind, mood);
    proxy.consumer_accepted().await;
    (consumer, proxy)
}

async fn parking_is(settings: &Settings, n: u32) {
    let probe = async || (broker::depths(settings).await.ok()?.parking == n).then_some(());
    testkit::eventually("parking", Duration::from_secs(10), probe).await.expect("in time");
}
