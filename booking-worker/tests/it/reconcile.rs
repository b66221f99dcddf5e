//! Quota between PostgreSQL and Redis, in peace.

use anyhow::{Context, Result};
use booking::{Nonce, State};
use booking_worker::reconcile::Round;
use inventory::Hold;
use ledger::epoch::EpochState;
use ledger::release::ReleaseVerb;

use crate::world::{ONE, World};

#[tokio::test]
async fn one_round_puts_a_preheated_release_on_sale() -> Result<()> {
    let world = World::start(&[3, 4]).await?;
    world.reconcile().await?;
    assert_eq!(world.left().await?, 7);
    world.win(0, world.slots[1]).await?;
    for _ in 0..3 {
        world.reconcile().await?;
    }
    assert_eq!(world.left().await?, 6, "a round more or less changes nothing");
    assert_eq!(world.epochs(EpochState::Open).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_release_preheated_since_windows_were_read_is_on_sale_with_its_places() -> Result<()> {
    let world = World::start(&[2]).await?;
    let round = Round { windows: Vec::new(), ..world.round().await? };
    world.reconciler().tick(&round).await?;
    assert_eq!(world.left().await?, 2);
    world.win(0, world.slots[0]).await?;
    Ok(())
}

#[tokio::test]
async fn a_cancelled_place_is_sold_again_also_to_whoever_cancelled() -> Result<()> {
    let world = World::start(&[1]).await?;
    let mut reconciler = world.reconciler();
    reconciler.tick(&world.round().await?).await?;
    world.consume();
    let first = world.book(0, world.slots[0]).await?;
    assert!(matches!(world.hold(1, world.slots[0]).await?.1, Hold::SoldOut));
    world.cancel(&first).await?;
    let again = world
        .tick_until(&mut reconciler, "the place is on sale again", async || {
            let (booking, hold) = world.hold(0, world.slots[0]).await?;
            Ok(matches!(hold, Hold::Held { .. }).then_some(booking))
        })
        .await?;
    world.publish(vec![again.clone()]).await?;
    assert_eq!(world.eventually_row(again.id).await?.state, State::Booked);
    world.eventually_empty_outbox().await?;
    world.assert_conserved().await
}

#[tokio::test]
async fn a_closed_release_is_frozen_and_its_unsold_places_are_back_at_once() -> Result<()> {
    let world = World::start(&[5]).await?;
    world.reconcile().await?;
    world.consume();
    world.book(0, world.slots[0]).await?;
    let before = world.open_epoch().await?.epoch;
    world.servers.ledger.change_release(world.admin, world.release, ReleaseVerb::Close).await?;
    let mut reconciler = world.reconciler();
    reconciler.tick(&world.round().await?).await?;
    let after = world.open_epoch().await?;
    assert!(after.epoch > before);
    assert_eq!((world.left().await?, world.counts().await?.escrowed), (0, 0));
    world.settle_epochs(&mut reconciler).await?;
    let (_, hold) = world.hold(1, world.slots[0]).await?;
    assert!(!matches!(hold, Hold::Held { .. }), "{hold:?}");
    assert_eq!(world.counts().await?.booked, 1);
    Ok(())
}

#[tokio::test]
async fn a_freeze_that_died_between_redis_and_postgresql_is_finished_by_the_next() -> Result<()> {
    let world = World::start(&[5]).await?;
    world.reconcile().await?;
    world.consume();
    let sold = world.win(0, world.slots[0]).await?;
    let row = world.open_epoch().await?;
    let seen = world.servers.inventory.inspect(ONE).await?;
    let mut dying = world.reconciler();
    let current = dying.current(Some(&row), &seen).await?.context("it sells")?;
    dying.freeze_ledger(&current).await?.context("it is the true ledger")?;
    let (_, hold) = world.hold(1, world.slots[0]).await?;
    assert_eq!(hold, Hold::Shut);

    let mut next = world.reconciler();
    next.tick(&world.round().await?).await?;
    assert!(world.open_epoch().await?.epoch > row.epoch);
    assert_eq!(world.left().await?, 4, "what was not sold is on sale again");
    world.publish(vec![sold.clone()]).await?;
    assert_eq!(world.eventually_row(sold.id).await?.state, State::Booked);
    world.eventually_empty_outbox().await?;
    world.settle_epochs(&mut next).await?;
    world.assert_conserved().await
}

/// The reconciler dies after each step of a renewal; a new one ends it.
#[tokio::test]
async fn a_renewal_that_died_between_any_two_steps_is_finished_by_the_next() -> Result<()> {
    for steps in 0..4 {
        let world = World::start(&[4]).await?;
        world.reconcile().await?;
        world.consume();
        let booked = world.book(0, world.slots[0]).await?;
        let pending = world.win(1, world.slots[0]).await?;
        world.redis_command("FLUSHALL").await?;
        let row = world.open_epoch().await?;

        let dying = world.reconciler();
        let nonce = Nonce("dying".into());
        if steps >= 1 {
            let term = dying.prepare(&nonce, row.epoch, false).await?.context("no ledger: R1")?;
            if steps >= 2 {
                let next = dying.open_row(row.epoch, &term, nonce).await?.context("R2")?;
                if steps >= 3 {
                    dying.open(next).await?.context("R3")?;
                }
            }
        }

        let mut next = world.reconciler();
        next.tick(&world.round().await?).await?;
        assert_eq!(world.open_epoch().await?.epoch, row.epoch.next(), "after {steps} steps");
        world.settle_epochs(&mut next).await?;
        next.tick(&world.round().await?).await?;
        assert_eq!(world.left().await?, 3, "after {steps} steps");
        assert_eq!(world.row(booked.id).await?.context("kept")?.state, State::Booked);
        assert_eq!(world.row(pending.id).await?, None, "lost with Redis, promised to nobody");
        let (_, hold) = world.hold(0, world.slots[0]).await?;
        assert!(
            matches!(hold, Hold::AlreadyBooked { .. }),
            "Redis learned who has a place: {hold:?}"
        );
        world.assert_conserved().await?;
    }
    Ok(())
}

#[tokio::test]
async fn two_reconcilers_at_once_open_one_epoch_and_grant_each_place_once() -> Result<()> {
    let world = World::start(&[5, 5]).await?;
    world.consume();
    for turn in 0..4 {
        let (mut one, mut two) = (world.reconciler(), world.reconciler());
        let round = world.round().await?;
        // Each may lose a race and give up its round; together they always get on.
        let (_, _) = tokio::join!(one.tick(&round), two.tick(&round));
        world.settle_epochs(&mut two).await?;
        one.tick(&world.round().await?).await?;
        assert_eq!(world.epochs(EpochState::Open).await?.len(), 1, "turn {turn}");
        world.book(turn, world.slots[0]).await?;
        world.eventually_empty_outbox().await?;
        world.assert_conserved().await?;
        world.redis_command("FLUSHALL").await?;
    }
    Ok(())
}
