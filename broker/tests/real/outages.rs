//! Outages of the server itself, on a private RabbitMQ: killed, restarted, out of memory.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use broker::{Link, Published};

use crate::support::{
    Consumer, Mood, P0, booking, ids_of, link_is, publish_many, publish_surely, publisher,
    settings_at, up,
};

/// L2: publishing is back this soon after RabbitMQ is.
const BACK_WITHIN: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_and_a_blocked_server_lose_nothing_that_was_certain() {
    let mut rabbit = testkit::Rabbit::start().await.expect("starts");
    let settings = settings_at(&rabbit.url());
    let publisher = publisher(&settings).await;
    let mut consumer = Consumer::start(&settings, Mood::Retry);

    // Killed while bookings are on their way.
    let mut certain: HashSet<_> = publish_many(&publisher, P0, 200).await.into_iter().collect();
    let (late, killed) = tokio::join!(publish_many(&publisher, P0, 500), rabbit.kill());
    killed.expect("killed");
    certain.extend(late);
    link_is(&publisher, Link::Down).await;
    let asked = Instant::now();
    assert_eq!(publisher.publish(P0, booking()).await, Published::Uncertain);
    assert!(asked.elapsed() < Duration::from_millis(100), "at once");
    rabbit.restart().await.expect("restarts");
    let back = Instant::now();
    up(&publisher).await;
    assert!(back.elapsed() < BACK_WITHIN, "back after {:?}", back.elapsed());
    certain.insert(publish_surely(&publisher, P0).await);
    consumer.mood.send_replace(Mood::Ack);
    let mut arrived = HashSet::new();
    while !certain.is_subset(&arrived) {
        arrived.extend(ids_of(&consumer.next_batch().await));
    }

    // Out of memory: RabbitMQ tells a connection so at its next publish.
    let alarm = ["set_vm_memory_high_watermark", "0.0001"];
    rabbit.ctl(&alarm).await.expect("sets the alarm");
    let blocked = async || {
        let _ = publisher.publish(P0, booking()).await;
        (publisher.link() == Link::Blocked).then_some(())
    };
    testkit::eventually("blocked", Duration::from_secs(10), blocked).await.expect("in time");
    let asked = Instant::now();
    assert_eq!(publisher.publish(P0, booking()).await, Published::Uncertain);
    assert!(publisher.send(P0, &crate::support::barrier(1, None)).await.is_err());
    assert!(asked.elapsed() < Duration::from_millis(100), "at once");
    rabbit.ctl(&["set_vm_memory_high_watermark", "0.6"]).await.expect("lifts the alarm");
    up(&publisher).await;
    let last = publish_surely(&publisher, P0).await;
    // The consumer was never blocked: it has a connection of its own.
    while !ids_of(&consumer.next_batch().await).contains(&last) {}
    consumer.stop().await;
}
