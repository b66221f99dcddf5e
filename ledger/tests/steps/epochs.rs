//! R2, R4, W6, R9 and G3: epochs open, grow, seal and close.

use anyhow::Result;
use booking::{AccountId, Epoch, Nonce, SlotId, Term};
use ledger::epoch::{Closed, EpochState, Grant, Opened};

use crate::world::{P0, P1, World, booking, bookings, places, refusal, term};

#[tokio::test]
async fn opening_grants_all_that_is_free_and_seals_the_one_before() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    assert_eq!(world.places(slot).await?, places(0, 5, 0));
    world.run("UPDATE slot SET capacity = 8, target = 8").await?;
    assert_eq!(world.open(P0, 1, "second").await?, Opened::Epoch(Epoch(2)));
    assert_eq!(world.places(slot).await?, places(0, 8, 0));
    assert_eq!(world.allotment(1, slot).await?, (5, 0));
    assert_eq!(world.allotment(2, slot).await?, (3, 0));
    let epochs = world.ledger.epochs().await?;
    let states: Vec<_> = epochs.iter().map(|e| (e.epoch.0, e.state)).collect();
    assert_eq!(states, [(1, EpochState::Sealed), (2, EpochState::Open)]);
    assert_eq!((&epochs[1].term, &epochs[1].nonce), (&term(), &Nonce("second".into())));
    world.assert_sound().await
}

#[tokio::test]
async fn opening_on_a_current_epoch_that_is_not_current_is_overtaken() -> Result<()> {
    let (world, _) = World::on_offer(5).await?;
    assert_eq!(world.open(P0, 0, "other").await?, Opened::Overtaken);
    assert_eq!(world.open(P0, 2, "other").await?, Opened::Overtaken);
    assert_eq!(world.ledger.epochs().await?.len(), 1);
    assert_eq!(world.open(P1, 1, "other").await?, Opened::Overtaken);
    world.assert_sound().await
}

#[tokio::test]
async fn opening_again_with_the_same_nonce_and_term_is_the_same_epoch() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    assert_eq!(world.open(P0, 0, "first").await?, Opened::Epoch(Epoch(1)));
    let nonce = Nonce("first".into());
    let elsewhere = Term { run_id: "another".into(), ..term() };
    let opened = world.ledger.open_epoch(P0, Epoch(0), &elsewhere, &nonce).await?;
    assert_eq!(opened, Opened::Overtaken);
    assert_eq!(world.places(slot).await?, places(0, 5, 0));
    world.ledger.freeze(P0, Epoch(1), &[(slot, 0)]).await?;
    assert_eq!(world.open(P0, 0, "first").await?, Opened::Overtaken);
    Ok(())
}

#[tokio::test]
async fn what_is_not_on_offer_is_not_granted() -> Result<()> {
    let world = World::new().await?;
    let elsewhere = SlotId::of(world.session(P1, 7, &[5]).await?, 0);
    let withdrawn = world.session(P0, 7, &[5]).await?;
    let phased = SlotId::of(world.session(P0, 8, &[5]).await?, 0);
    let planned = SlotId::of(world.session(P0, 9, &[5]).await?, 0);
    world.run(&format!("UPDATE session SET withdrawn_at = now() WHERE id = {withdrawn}")).await?;
    world.run(&format!("UPDATE slot SET target = 3 WHERE id = {phased}")).await?;
    world.run(&format!("UPDATE slot SET target = 0 WHERE id = {planned}")).await?;
    world.open_first(P0).await?;
    let granted = world.ledger.grants(P0, Epoch(1)).await?;
    assert_eq!(granted, [Grant { slot: phased, granted: 3, release: 1.into() }]);
    assert_eq!(world.ledger.top_up(P0, Epoch(1)).await?, []);
    for slot in [elsewhere, SlotId::of(withdrawn, 0), planned] {
        assert_eq!(world.places(slot).await?, places(0, 0, 0));
    }
    world.assert_sound().await
}

#[tokio::test]
async fn topping_up_grants_what_became_free_once() -> Result<()> {
    let (world, slot) = World::on_offer(2).await?;
    world.persist(&[booking(1, slot, 1), booking(2, slot, 1)]).await?;
    assert_eq!(world.places(slot).await?, places(1, 0, 1));
    let grant = |granted| Grant { slot, granted, release: 1.into() };
    assert_eq!(world.ledger.top_up(P0, Epoch(1)).await?, [grant(3)]);
    assert_eq!(world.ledger.top_up(P0, Epoch(1)).await?, []);
    world.ledger.cancel(booking(1, slot, 1).id, AccountId::from(1)).await?;
    assert_eq!(world.ledger.top_up(P0, Epoch(1)).await?, [grant(4)]);
    assert_eq!(world.ledger.grants(P0, Epoch(1)).await?, [grant(4)]);
    assert_eq!(world.places(slot).await?, places(0, 2, 1));
    world.assert_sound().await
}

/// One statement for all of them would meet its timeout.
#[tokio::test]
async fn more_than_ten_thousand_slots_are_granted_in_parts() -> Result<()> {
    let world = World::new().await?;
    for days in 1..=40 {
        world.session(P0, days, &[1; 256]).await?;
    }
    world.open_first(P0).await?;
    assert_eq!(world.ledger.grants(P0, Epoch(1)).await?.len(), 10_000);
    assert_eq!(world.ledger.top_up(P0, Epoch(1)).await?.len(), 240);
    assert_eq!(world.ledger.top_up(P0, Epoch(1)).await?, []);
    world.assert_sound().await
}

#[tokio::test]
async fn only_the_open_epoch_is_topped_up() -> Result<()> {
    let (world, slot) = World::on_offer(2).await?;
    world.open(P0, 1, "second").await?;
    world.run("UPDATE slot SET capacity = 5, target = 5").await?;
    assert_eq!(world.ledger.top_up(P0, Epoch(1)).await?, []);
    assert_eq!(world.ledger.top_up(P0, Epoch(3)).await?, []);
    assert_eq!(world.places(slot).await?, places(0, 2, 0));
    assert_eq!(world.ledger.top_up(P0, Epoch(2)).await?.len(), 1);
    world.assert_sound().await
}

#[tokio::test]
async fn an_open_epoch_has_no_barrier_to_come_through() -> Result<()> {
    let (world, _) = World::on_offer(2).await?;
    assert_eq!(refusal(world.ledger.record_drained(P0, Epoch(1)).await), "epoch_not_sealed");
    assert_eq!(refusal(world.ledger.record_drained(P0, Epoch(9)).await), "epoch_not_sealed");
    world.open(P0, 1, "second").await?;
    world.ledger.record_drained(P0, Epoch(1)).await?;
    let first = world.number("SELECT unix_ms(drained_at) FROM epoch WHERE e = 1").await?;
    world.ledger.record_drained(P0, Epoch(1)).await?;
    assert_eq!(world.number("SELECT unix_ms(drained_at) FROM epoch WHERE e = 1").await?, first);
    assert!(world.ledger.epochs().await?[0].drained);
    Ok(())
}

#[tokio::test]
async fn closing_gives_back_what_was_not_used_once() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.persist(&bookings(2, slot)).await?;
    world.open(P0, 1, "second").await?;
    world.ledger.record_drained(P0, Epoch(1)).await?;
    assert_eq!(world.ledger.close_epoch(P0, Epoch(1)).await?, Closed::Done);
    assert_eq!(world.places(slot).await?, places(2, 0, 2));
    assert_eq!(world.ledger.close_epoch(P0, Epoch(1)).await?, Closed::Done);
    assert_eq!(world.places(slot).await?, places(2, 0, 2));
    assert_eq!(world.ledger.top_up(P0, Epoch(2)).await?.len(), 1);
    assert_eq!(world.places(slot).await?, places(2, 3, 2));
    world.assert_sound().await
}

#[tokio::test]
async fn an_epoch_is_not_closed_before_it_is_sealed_and_drained() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    assert_eq!(world.ledger.close_epoch(P0, Epoch(1)).await?, Closed::NotYet);
    assert_eq!(world.ledger.close_epoch(P0, Epoch(9)).await?, Closed::NotYet);
    world.run("UPDATE epoch SET drained_at = now()").await?;
    assert_eq!(world.ledger.close_epoch(P0, Epoch(1)).await?, Closed::NotYet);
    world.run("UPDATE epoch SET drained_at = NULL").await?;
    world.open(P0, 1, "second").await?;
    assert_eq!(world.ledger.close_epoch(P0, Epoch(1)).await?, Closed::NotYet);
    assert_eq!(world.places(slot).await?, places(0, 5, 0));
    world.assert_sound().await
}

#[tokio::test]
async fn an_epoch_that_was_not_frozen_is_not_closed_undrained_even_if_all_is_consumed() -> Result<()>
{
    let (world, slot) = World::on_offer(2).await?;
    world.persist(&bookings(2, slot)).await?;
    world.open(P0, 1, "second").await?;
    assert_eq!(world.ledger.close_epoch(P0, Epoch(1)).await?, Closed::NotYet);
    Ok(())
}

#[tokio::test]
async fn queued_may_be_said_only_under_an_open_epoch() -> Result<()> {
    let (world, _) = World::on_offer(2).await?;
    world.open(P0, 1, "second").await?;
    world.open_first(P1).await?;
    let asked = [(P0, Epoch(2)), (P0, Epoch(1)), (P1, Epoch(1)), (P0, Epoch(3)), (P0, Epoch(2))];
    let open = world.ledger.are_open(&asked).await?;
    assert_eq!(open, [true, false, true, false, true]);
    assert!(world.ledger.are_open(&[]).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn closed_epochs_are_listed_only_as_the_latest() -> Result<()> {
    let (world, slot) = World::on_offer(2).await?;
    world.ledger.freeze(P0, Epoch(1), &[(slot, 0)]).await?;
    world.ledger.close_epoch(P0, Epoch(1)).await?;
    let epochs = world.ledger.epochs().await?;
    assert_eq!((epochs.len(), epochs[0].state, epochs[0].frozen), (1, EpochState::Closed, true));
    world.open(P0, 1, "second").await?;
    let epochs = world.ledger.epochs().await?;
    assert_eq!((epochs.len(), epochs[0].epoch), (1, Epoch(2)));
    Ok(())
}
