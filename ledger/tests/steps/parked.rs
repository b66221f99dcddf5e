//! Parking and P1: set aside, listed, replayed, discarded.

use anyhow::Result;
use booking::message::ManifestEntry;
use booking::{Booking, Epoch, ParkedId, Reason};
use ledger::epoch::Closed;
use ledger::parked::{Parked, ParkedRow, Replayed};

use crate::world::{P0, P1, World, booking, lost, places, won};

async fn park(world: &World, what: Parked) -> Result<ParkedRow> {
    world.ledger.park(P0, "test", "", &[what]).await?;
    Ok(world.ledger.parked(None, 1).await?.remove(0))
}

fn unreadable(of: Option<&Booking>) -> Parked {
    let entry = of.map(|b| ManifestEntry { id: b.id, epoch: b.epoch, slot: b.slot });
    Parked::Message { entry, body: b"\xff\x00?".to_vec() }
}

#[tokio::test]
async fn what_is_parked_twice_is_parked_once() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let held = booking(1, slot, 1);
    for reason in ["first", "second"] {
        let both = [Parked::Booking(held.clone()), unreadable(None), unreadable(None)];
        world.ledger.park(P0, reason, "words", &both[..2]).await?;
    }
    let rows = world.ledger.parked(None, 10).await?;
    assert_eq!(rows.len(), 2);
    let booking_row = rows.iter().find(|row| row.replayable).expect("the booking");
    assert_eq!((booking_row.booking, booking_row.epoch), (Some(held.id), Some(Epoch(1))));
    assert_eq!((booking_row.reason.as_str(), booking_row.detail.as_str()), ("first", "words"));
    let older = world.ledger.parked(Some(rows[0].id), 10).await?;
    assert_eq!(older, rows[1..]);
    Ok(())
}

#[tokio::test]
async fn a_replayed_booking_is_persisted_and_no_longer_parked() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let row = park(&world, Parked::Booking(booking(1, slot, 1))).await?;
    assert_eq!(world.ledger.replay_parked(row.id).await?, Replayed::Done(won(1)));
    assert_eq!(world.ledger.parked(None, 10).await?, []);
    assert_eq!(world.ledger.replay_parked(row.id).await?, Replayed::NotFound);
    assert_eq!(world.places(slot).await?, places(1, 4, 1));
    world.assert_sound().await
}

#[tokio::test]
async fn a_booking_that_got_its_row_meanwhile_is_unparked() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let row = park(&world, Parked::Booking(booking(1, slot, 1))).await?;
    world.persist_one(&booking(1, slot, 1)).await?;
    assert_eq!(world.ledger.replay_parked(row.id).await?, Replayed::Done(won(1)));
    assert_eq!(world.places(slot).await?, places(1, 4, 1));
    world.assert_sound().await
}

#[tokio::test]
async fn what_is_still_refused_stays_parked() -> Result<()> {
    let (world, slot) = World::on_offer(1).await?;
    world.persist_one(&booking(1, slot, 1)).await?;
    let mut of_no_epoch = booking(2, slot, 2);
    of_no_epoch.epoch = Epoch(9);
    for (held, word) in [
        (booking(1, slot, 2), "id_conflict"),
        (of_no_epoch, "unknown_allotment"),
        (booking(3, slot, 3), "epoch_slot_consumed_check"),
    ] {
        let row = park(&world, Parked::Booking(held)).await?;
        let answer = world.ledger.replay_parked(row.id).await?;
        assert_eq!(answer, Replayed::StillRefused(word.to_owned()));
    }
    assert_eq!(world.ledger.parked(None, 10).await?.len(), 3);
    world.assert_sound().await
}

#[tokio::test]
async fn an_unreadable_message_is_not_replayed_but_may_be_discarded() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let row = park(&world, unreadable(Some(&booking(1, slot, 1)))).await?;
    assert!(!row.replayable);
    assert_eq!(row.slot, Some(slot));
    assert_eq!(world.ledger.replay_parked(row.id).await?, Replayed::NotReplayable);
    assert!(world.ledger.discard_parked(row.id).await?);
    assert!(!world.ledger.discard_parked(row.id).await?);
    assert_eq!(world.ledger.replay_parked(ParkedId::from(9)).await?, Replayed::NotFound);
    Ok(())
}

#[tokio::test]
async fn a_booking_that_may_still_be_persisted_is_not_discarded() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let held = booking(1, slot, 1);
    let row = park(&world, Parked::Booking(held.clone())).await?;
    assert!(!world.ledger.discard_parked(row.id).await?);
    world.persist_one(&held).await?;
    assert!(world.ledger.discard_parked(row.id).await?);
    let mut of_no_epoch = booking(2, slot, 2);
    of_no_epoch.epoch = Epoch(9);
    let row = park(&world, Parked::Booking(of_no_epoch)).await?;
    assert!(world.ledger.discard_parked(row.id).await?);
    Ok(())
}

#[tokio::test]
async fn what_is_parked_of_an_epoch_or_might_be_keeps_it_from_closing() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.open(P0, 1, "second").await?;
    world.ledger.record_drained(P0, Epoch(1)).await?;
    // Of another partition or epoch: not in the way.
    world.ledger.park(P1, "test", "", &[unreadable(None)]).await?;
    let mut later = booking(2, slot, 2);
    later.epoch = Epoch(2);
    park(&world, Parked::Booking(later)).await?;
    let unknown = park(&world, unreadable(None)).await?;
    assert_eq!(world.ledger.close_epoch(P0, Epoch(1)).await?, Closed::NotYet);
    assert!(world.ledger.discard_parked(unknown.id).await?);
    let held = park(&world, Parked::Booking(booking(1, slot, 1))).await?;
    assert_eq!(world.ledger.close_epoch(P0, Epoch(1)).await?, Closed::NotYet);
    assert_eq!(world.ledger.replay_parked(held.id).await?, Replayed::Done(won(1)));
    assert_eq!(world.ledger.close_epoch(P0, Epoch(1)).await?, Closed::Done);
    world.assert_sound().await
}

#[tokio::test]
async fn a_replay_after_the_close_is_late() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.ledger.freeze(P0, Epoch(1), &[(slot, 0)]).await?;
    world.ledger.close_epoch(P0, Epoch(1)).await?;
    let row = park(&world, Parked::Booking(booking(1, slot, 1))).await?;
    assert_eq!(world.ledger.replay_parked(row.id).await?, Replayed::Done(lost(Reason::Late)));
    world.assert_sound().await
}
