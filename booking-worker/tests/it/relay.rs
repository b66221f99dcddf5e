//! What was held and then lost by everybody else.

use anyhow::Result;
use booking::State;
use booking_worker::relay::{Relay, UNREADABLE};
use testkit::eventually;
use tokio::sync::Mutex;

use crate::world::{ONE, SOON, World};

#[tokio::test]
async fn a_booking_whose_gateway_died_after_the_hold_is_carried_on() -> Result<()> {
    let world = World::start(&[2]).await?;
    world.reconcile().await?;
    world.consume();
    let booking = world.win(0, world.slots[0]).await?;
    let mut relay = Relay::new(&world.servers, ONE, 500);
    let early = relay.step().await?;
    assert_eq!(
        (early.published, early.settled),
        (0, 0),
        "it may still be published by its gateway"
    );
    eventually("its age", SOON, || async {
        (world.servers.clock.now().since(booking.id.minted_at()) >= 500).then_some(())
    })
    .await?;
    assert_eq!(relay.step().await?.published, 1);
    assert_eq!(world.eventually_row(booking.id).await?.state, State::Booked);
    world.eventually_empty_outbox().await?;
    world.assert_conserved().await
}

#[tokio::test]
async fn a_booking_is_not_published_again_at_once() -> Result<()> {
    let world = World::start(&[2]).await?;
    world.reconcile().await?;
    world.win(0, world.slots[0]).await?;
    let mut relay = Relay::new(&world.servers, ONE, 0);
    assert_eq!(relay.step().await?.published, 1);
    assert_eq!(relay.step().await?.published, 0);
    Ok(())
}

#[tokio::test]
async fn a_booking_that_a_moving_queue_has_not_come_to_is_left_alone() -> Result<()> {
    let world = World::start(&[2]).await?;
    world.reconcile().await?;
    let booking = world.win(0, world.slots[0]).await?;
    let relay = Mutex::new(Relay::new(&world.servers, ONE, 0));
    world.servers.fronts.note(ONE, std::iter::once(booking.id));
    assert_eq!(relay.lock().await.step().await?.published, 0);
    // The queue stands still then, so it is not in it.
    eventually("that it is carried on", SOON, async || {
        let relayed = relay.lock().await.step().await.ok()?;
        (relayed.published == 1).then_some(())
    })
    .await
}

#[tokio::test]
async fn an_entry_that_has_its_row_is_settled_and_not_published() -> Result<()> {
    let world = World::start(&[2]).await?;
    world.reconcile().await?;
    let booking = world.win(0, world.slots[0]).await?;
    world.servers.ledger.persist(ONE, &[booking]).await?;
    let relayed = Relay::new(&world.servers, ONE, 0).step().await?;
    assert_eq!((relayed.published, relayed.settled), (0, 1));
    world.eventually_empty_outbox().await?;
    world.assert_conserved().await
}

#[tokio::test]
async fn an_unreadable_entry_is_parked_once_and_never_deleted() -> Result<()> {
    let world = World::start(&[2]).await?;
    world.reconcile().await?;
    let id = world.booking(0, world.slots[0], world.open_epoch().await?.epoch)?.id;
    world.redis_command(&format!("HSET {{p0}}:out {id} garbage")).await?;
    for _ in 0..2 {
        let mut relay = Relay::new(&world.servers, ONE, 0);
        relay.step().await?;
        relay.step().await?;
    }
    let parked = world.servers.ledger.parked(None, 10).await?;
    assert_eq!(parked.len(), 1);
    assert_eq!((parked[0].reason.as_str(), &parked[0].detail), (UNREADABLE, &id.to_string()));
    assert_eq!(world.redis_command("HLEN {p0}:out").await?, ":1");
    Ok(())
}

#[tokio::test]
async fn nothing_is_deleted_or_published_while_postgresql_cannot_be_asked() -> Result<()> {
    let mut postgres = testkit::Postgres::start().await?;
    let world = World::start_on_own(&postgres, &[2]).await?;
    world.reconcile().await?;
    world.win(0, world.slots[0]).await?;
    postgres.kill().await?;
    assert!(Relay::new(&world.servers, ONE, 0).step().await.is_err());
    assert_eq!(world.redis_command("HLEN {p0}:out").await?, ":1");
    Ok(())
}
