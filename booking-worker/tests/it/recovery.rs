//! Quota after Redis was lost.

use std::time::Duration;

use anyhow::{Context, Result};
use booking::State;
use booking_worker::reconcile::{Current, Error, PartitionReconciler, Round};
use booking_worker::relay::Relay;
use broker::{Link, Publisher};
use inventory::Hold;
use ledger::epoch::EpochState;
use secrecy::SecretString;
use testkit::{Database, Proxy, eventually};

use crate::world::{ONE, SOON, World, connect_redis};

#[tokio::test]
async fn after_a_flushed_redis_all_quota_is_back_when_the_old_epoch_closed() -> Result<()> {
    let world = World::start(&[6]).await?;
    let mut reconciler = world.reconciler();
    reconciler.tick(&world.round().await?).await?;
    world.consume();
    world.book(0, world.slots[0]).await?;
    // One is in the queue and one is lost with Redis.
    let queued = world.win(1, world.slots[0]).await?;
    world.win(2, world.slots[0]).await?;
    let old = world.open_epoch().await?.epoch;
    world.redis_command("FLUSHALL").await?;
    world.publish(vec![queued.clone()]).await?;

    reconciler.tick(&world.round().await?).await?;
    assert_eq!(world.open_epoch().await?.epoch, old.next());
    world.settle_epochs(&mut reconciler).await?;
    reconciler.tick(&world.round().await?).await?;
    assert_eq!(world.eventually_row(queued.id).await?.state, State::Booked);
    assert_eq!((world.counts().await?.booked, world.left().await?), (2, 4));
    world.assert_conserved().await?;
    for patient in 2..6 {
        world.book(patient, world.slots[0]).await?;
    }
    assert!(matches!(world.hold(6, world.slots[0]).await?.1, Hold::SoldOut));
    world.assert_conserved().await
}

#[tokio::test]
async fn a_restarted_redis_keeps_its_outbox_and_gets_a_new_epoch() -> Result<()> {
    let mut world = World::start(&[4]).await?;
    let mut reconciler = world.reconciler();
    reconciler.tick(&world.round().await?).await?;
    world.consume();
    let held = world.win(0, world.slots[0]).await?;
    let old = world.open_epoch().await?.epoch;
    // The append-only file is written every second; the entry must have reached it.
    world.redis_command("BGREWRITEAOF").await?;
    eventually("the file is rewritten", SOON, || async {
        let info = world.redis_command("EVAL \"return string.match(redis.call('info','persistence'),'aof_rewrite_in_progress:(%d)')..string.match(redis.call('info','persistence'),'aof_rewrite_scheduled:(%d)')\" 0").await.ok()?;
        (info == "$2").then_some(())
    })
    .await?;
    world.redis.restart().await?;
    let inventory = world.servers.inventory.clone();
    eventually("Redis", SOON, || async { inventory.ping().await.ok() }).await?;

    world
        .tick_until(&mut reconciler, "a new epoch", async || {
            Ok((world.open_epoch().await?.epoch == old.next()).then_some(()))
        })
        .await?;
    world
        .tick_until(&mut reconciler, "the old epoch is drained", async || {
            let sealed = world.epochs(EpochState::Sealed).await?;
            Ok(sealed.first().is_some_and(|row| row.drained).then_some(()))
        })
        .await?;
    // While the outbox holds a booking of the old epoch, that is not closed.
    for _ in 0..3 {
        reconciler.tick(&world.round().await?).await?;
        assert_eq!(world.epochs(EpochState::Sealed).await?.len(), 1);
    }
    Relay::new(&world.servers, ONE, 0).step().await?;
    assert_eq!(world.eventually_row(held.id).await?.state, State::Booked);
    world.eventually_empty_outbox().await?;
    world.settle_epochs(&mut reconciler).await?;
    reconciler.tick(&world.round().await?).await?;
    assert_eq!((world.counts().await?.booked, world.left().await?), (1, 3));
    world.assert_conserved().await
}

#[tokio::test]
async fn a_parked_booking_keeps_its_epoch_open_to_a_replay() -> Result<()> {
    let world = World::start(&[2]).await?;
    let mut reconciler = world.reconciler();
    reconciler.tick(&world.round().await?).await?;
    world.consume();
    let held = world.win(0, world.slots[0]).await?;
    let parked = ledger::parked::Parked::Booking(held.clone());
    world.servers.ledger.park(ONE, "by_hand", "", &[parked]).await?;
    world.redis_command("FLUSHALL").await?;
    reconciler.tick(&world.round().await?).await?;
    world
        .tick_until(&mut reconciler, "the old epoch is drained", async || {
            let sealed = world.epochs(EpochState::Sealed).await?;
            Ok(sealed.first().is_some_and(|row| row.drained).then_some(()))
        })
        .await?;
    reconciler.tick(&world.round().await?).await?;
    assert_eq!(world.epochs(EpochState::Sealed).await?.len(), 1, "its place is not given away");
    let row = world.servers.ledger.parked(None, 1).await?.remove(0);
    world.servers.ledger.replay_parked(row.id).await?;
    assert_eq!(world.eventually_row(held.id).await?.state, State::Booked);
    world.settle_epochs(&mut reconciler).await?;
    reconciler.tick(&world.round().await?).await?;
    world.assert_conserved().await
}

#[tokio::test]
async fn a_database_that_was_set_back_is_reported_and_redis_is_not_touched() -> Result<()> {
    let world = World::start(&[2]).await?;
    world.reconcile().await?;
    let mut reconciler = world.reconciler();
    let before_the_first_epoch = Round::default();
    reconciler.tick(&before_the_first_epoch).await?;
    let error = reconciler.tick(&before_the_first_epoch).await.expect_err("ahead, twice");
    assert!(matches!(error, Error::Ahead), "{error}");
    assert_eq!(world.left().await?, 2);
    reconciler.tick(&world.round().await?).await?;
    world.assert_conserved().await
}

#[tokio::test]
async fn a_network_cut_while_persisting_loses_nothing_and_doubles_nothing() -> Result<()> {
    let database = Database::create().await?;
    let proxy = Proxy::start(&database.url()).await?;
    let world = World::start_on(database, &proxy.url(), &[4]).await?;
    world.reconcile().await?;
    world.consume();
    let epoch = world.open_epoch().await?.epoch;
    let booking = world.booking(0, world.slots[0], epoch)?;
    world.servers.inventory.hold(ONE, &booking, booking.accepted_at).await?;
    proxy.mute();
    world.publish(vec![booking.clone()]).await?;
    eventually("the consumer has taken it", SOON, || async {
        let depths = broker::depths(&world.servers.broker).await.ok()?;
        (depths.bookings == [0]).then_some(())
    })
    .await?;
    assert!(world.ledger_aside()?.find_bookings(&[booking.id]).await?.is_empty());
    proxy.cut();
    proxy.heal();
    assert_eq!(world.eventually_row(booking.id).await?.state, State::Booked);
    world.eventually_empty_outbox().await?;
    assert_eq!(world.counts().await?.booked, 1);
    world.assert_conserved().await
}

#[tokio::test]
async fn a_new_ledger_knows_who_has_a_place_before_it_sells_any() -> Result<()> {
    let world = World::start(&[3]).await?;
    let mut reconciler = world.reconciler();
    reconciler.tick(&world.round().await?).await?;
    world.consume();
    let booking = world.book(0, world.slots[0]).await?;
    world.redis_command("FLUSHALL").await?;
    // Step by step, so that the repair at the end of a round can't be what tells it.
    let (round, row) = (world.round().await?, world.open_epoch().await?);
    let seen = world.servers.inventory.inspect(ONE).await?;
    let current = reconciler.current(Some(&row), &seen).await?.context("a new epoch")?;
    reconciler.tell_windows(&current, &round.windows).await?;
    assert!(reconciler.send_barrier(row.epoch).await);
    eventually("the old epoch is closed", SOON, || async {
        let closed = reconciler.close(&[row.epoch], &current).await.ok()?;
        (closed == 1).then_some(())
    })
    .await?;
    reconciler.top_up(&current).await?;
    assert_eq!(world.left().await?, 2);
    let (_, hold) = world.hold(0, world.slots[0]).await?;
    assert_eq!(hold, Hold::AlreadyBooked { id: booking.id });
    Ok(())
}

#[tokio::test]
async fn a_barrier_that_could_not_be_sent_is_sent_in_the_first_round_that_can() -> Result<()> {
    let world = World::start(&[2]).await?;
    let proxy = Proxy::start(&world.amqp_url).await?;
    let mut servers = world.servers.clone();
    servers.broker.url = SecretString::from(proxy.url());
    servers.publisher = Publisher::start(&servers.broker, None, world.stop.clone());
    tokio::time::timeout(SOON, servers.publisher.wait_up()).await?;
    let mut reconciler = PartitionReconciler::new(&servers, ONE);
    reconciler.tick(&world.round().await?).await?;
    world.redis_command("FLUSHALL").await?;
    proxy.cut();
    let publisher = &servers.publisher;
    eventually("no way to RabbitMQ", SOON, || async {
        (publisher.link() != Link::Up).then_some(())
    })
    .await?;
    // The first round seals the epoch, the second would send its barrier.
    for _ in 0..2 {
        reconciler.tick(&world.round().await?).await?;
    }
    assert_eq!(world.epochs(EpochState::Sealed).await?.len(), 1);
    proxy.heal();
    tokio::time::timeout(SOON, publisher.wait_up()).await?;
    reconciler.tick(&world.round().await?).await?;
    eventually("the barrier in the queue", Duration::from_secs(5), || async {
        let depths = broker::depths(&world.servers.broker).await.ok()?;
        (depths.bookings == [1]).then_some(())
    })
    .await
}

/// The race: PostgreSQL has granted what became free, which it does once, and Redis can't be told.
#[tokio::test]
async fn places_granted_in_a_round_that_failed_are_on_sale_after_the_next() -> Result<()> {
    let world = World::start(&[1]).await?;
    let proxy = Proxy::start(&world.redis.url()).await?;
    let mut servers = world.servers.clone();
    servers.inventory = connect_redis(&proxy.url())?;
    let inventory = &servers.inventory;
    eventually("Redis", SOON, || async { inventory.ping().await.ok() }).await?;
    let mut reconciler = PartitionReconciler::new(&servers, ONE);
    reconciler.tick(&world.round().await?).await?;
    let sold = world.win(0, world.slots[0]).await?;
    world.servers.ledger.persist(ONE, std::slice::from_ref(&sold)).await?;
    world.cancel(&sold).await?;
    let row = world.open_epoch().await?;
    let current = Current { epoch: row.epoch, term: row.term, nonce: row.nonce };
    proxy.cut();
    assert!(reconciler.top_up(&current).await.is_err(), "Redis was told all the same");
    let counts = world.counts().await?;
    assert_eq!((counts.free, counts.escrowed), (0, 1), "granted");

    proxy.heal();
    world
        .tick_until(&mut reconciler, "the place is on sale again", async || {
            Ok((world.left().await? == 1).then_some(()))
        })
        .await
}
