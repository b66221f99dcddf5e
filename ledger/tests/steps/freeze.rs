//! R6: an epoch ends on purpose and what was unsold is free at once.

use anyhow::Result;
use booking::{Epoch, SlotId};
use ledger::epoch::{Closed, EpochState};

use crate::world::{P0, World, booking, bookings, places, refusal, won};

#[tokio::test]
async fn freezing_takes_back_what_was_not_sold_once() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.persist_one(&booking(1, slot, 1)).await?;
    assert_eq!(world.ledger.freeze(P0, Epoch(1), &[(slot, 3)]).await?, Closed::Done);
    assert_eq!(world.places(slot).await?, places(1, 2, 1));
    assert_eq!(world.allotment(1, slot).await?, (3, 1));
    let epochs = world.ledger.epochs().await?;
    assert_eq!((epochs[0].state, epochs[0].frozen), (EpochState::Sealed, true));
    assert_eq!(world.ledger.freeze(P0, Epoch(1), &[(slot, 3)]).await?, Closed::Done);
    assert_eq!(world.places(slot).await?, places(1, 2, 1));
    world.assert_sound().await
}

#[tokio::test]
async fn a_frozen_epoch_is_closed_when_all_that_was_sold_is_consumed() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.ledger.freeze(P0, Epoch(1), &[(slot, 2)]).await?;
    world.persist_one(&booking(1, slot, 1)).await?;
    assert_eq!(world.ledger.close_epoch(P0, Epoch(1)).await?, Closed::NotYet);
    assert_eq!(world.persist_one(&booking(2, slot, 2)).await?, won(2));
    assert_eq!(world.ledger.close_epoch(P0, Epoch(1)).await?, Closed::Done);
    assert_eq!(world.places(slot).await?, places(2, 0, 2));
    assert_eq!(world.ledger.freeze(P0, Epoch(1), &[(slot, 2)]).await?, Closed::Done);
    world.assert_sound().await
}

#[tokio::test]
async fn a_frozen_epoch_that_is_drained_is_closed_whatever_was_consumed() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.ledger.freeze(P0, Epoch(1), &[(slot, 2)]).await?;
    world.ledger.record_drained(P0, Epoch(1)).await?;
    assert_eq!(world.ledger.close_epoch(P0, Epoch(1)).await?, Closed::Done);
    assert_eq!(world.places(slot).await?, places(0, 0, 0));
    world.assert_sound().await
}

/// An epoch with hundreds of thousands of slots is frozen and closed in as many changes. Cut off like any other
/// statement they would be undone, and begin again, for ever.
#[tokio::test]
async fn an_epoch_may_take_longer_to_end_than_any_other_statement() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world
        .run(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN PERFORM pg_sleep(1.5); RETURN NEW; END $$;
             CREATE TRIGGER slow BEFORE UPDATE ON slot FOR EACH ROW EXECUTE FUNCTION slow()",
        )
        .await?;
    let hurried = world.hurried(1_000)?;
    assert_eq!(hurried.freeze(P0, Epoch(1), &[(slot, 2)]).await?, Closed::Done);
    assert_eq!(world.allotment(1, slot).await?, (2, 0));
    hurried.record_drained(P0, Epoch(1)).await?;
    assert_eq!(hurried.close_epoch(P0, Epoch(1)).await?, Closed::Done);
    assert_eq!(world.places(slot).await?, places(0, 0, 0));
    Ok(())
}

#[tokio::test]
async fn a_frozen_epoch_with_one_slot_unconsumed_stays() -> Result<()> {
    let world = World::new().await?;
    let session = world.session(P0, 7, &[2, 2]).await?;
    let [first, second] = [0, 1].map(|ordinal| SlotId::of(session, ordinal));
    world.open_first(P0).await?;
    world.ledger.freeze(P0, Epoch(1), &[(first, 1), (second, 1)]).await?;
    world.persist_one(&booking(1, first, 1)).await?;
    assert_eq!(world.ledger.close_epoch(P0, Epoch(1)).await?, Closed::NotYet);
    Ok(())
}

#[tokio::test]
async fn sold_counts_that_contradict_the_allotments_are_refused() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let stranger = SlotId::of(world.session(P0, 8, &[5]).await?, 0);
    world.persist(&bookings(2, slot)).await?;
    for (sold, named) in [
        (vec![], "sold_missing"),
        (vec![(slot, 1)], "sold_below_consumed"),
        (vec![(slot, 6)], "sold_above_granted"),
        (vec![(slot, 3), (stranger, 1)], "allotment_unknown"),
    ] {
        assert_eq!(refusal(world.ledger.freeze(P0, Epoch(1), &sold).await), named);
    }
    assert_eq!(world.places(slot).await?, places(2, 3, 2));
    assert_eq!(world.ledger.epochs().await?[0].state, EpochState::Open);
    // A slot Redis knows of but sold nothing of is no contradiction.
    let sold = [(slot, 2), (stranger, 0)];
    assert_eq!(world.ledger.freeze(P0, Epoch(1), &sold).await?, Closed::Done);
    world.assert_sound().await
}

#[tokio::test]
async fn an_allotment_of_nothing_need_not_be_named() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let stranger = world.session(P0, 8, &[5]).await?;
    world
        .run(&format!(
            "INSERT INTO epoch_slot (partition, e, slot_id, granted) VALUES (0, 1, {}, 0)",
            SlotId::of(stranger, 0)
        ))
        .await?;
    assert_eq!(world.ledger.freeze(P0, Epoch(1), &[(slot, 0)]).await?, Closed::Done);
    world.assert_sound().await
}

#[tokio::test]
async fn an_epoch_sealed_another_way_is_not_frozen() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.open(P0, 1, "second").await?;
    assert_eq!(world.ledger.freeze(P0, Epoch(1), &[(slot, 0)]).await?, Closed::NotYet);
    assert_eq!(world.ledger.freeze(P0, Epoch(9), &[]).await?, Closed::NotYet);
    assert_eq!(world.places(slot).await?, places(0, 5, 0));
    world.assert_sound().await
}

#[tokio::test]
async fn an_epoch_holds_excess_while_its_slots_are_off_offer() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.persist(&bookings(2, slot)).await?;
    assert!(!world.ledger.uneven(P0).await?.has_excess);
    world.run("UPDATE slot SET target = 4").await?;
    assert!(world.ledger.uneven(P0).await?.has_excess);
    world.ledger.freeze(P0, Epoch(1), &[(slot, 3)]).await?;
    assert!(!world.ledger.uneven(P0).await?.has_excess, "no epoch is open");
    world.open(P0, 1, "second").await?;
    assert_eq!(world.places(slot).await?, places(2, 2, 2));
    assert!(!world.ledger.uneven(P0).await?.has_excess);
    world.assert_sound().await
}
