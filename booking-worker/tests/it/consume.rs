//! From a published envelope to durable rows.

use anyhow::{Context, Result};
use booking::{BookingId, Epoch, Reason, State};
use booking_worker::consume::Consumer;
use broker::{Delivered, Handler, Verdict};
use ledger::parked::ParkedRow;
use testkit::{Postgres, eventually};

use crate::world::{ONE, SOON, World};

async fn eventually_parked(world: &World, count: usize) -> Result<Vec<ParkedRow>> {
    eventually("parked rows", SOON, || async {
        let rows = world.servers.ledger.parked(None, 100).await.ok()?;
        (rows.len() == count).then_some(rows)
    })
    .await
}

#[tokio::test]
async fn a_published_booking_becomes_a_row_and_leaves_the_outbox() -> Result<()> {
    let world = World::start(&[3]).await?;
    world.reconcile().await?;
    world.consume();
    let (one, two) = (world.win(0, world.slots[0]).await?, world.win(1, world.slots[0]).await?);
    world.publish(vec![one.clone(), two.clone()]).await?;
    for booking in [&one, &two] {
        let row = world.eventually_row(booking.id).await?;
        assert_eq!((row.state, &row.booking), (State::Booked, booking));
    }
    world.eventually_empty_outbox().await?;
    let counts = world.counts().await?;
    assert_eq!((counts.booked, counts.escrowed, world.left().await?), (2, 1, 1));
    world.assert_conserved().await
}

#[tokio::test]
async fn the_same_envelope_twice_is_one_row() -> Result<()> {
    let world = World::start(&[3]).await?;
    world.reconcile().await?;
    world.consume();
    let booking = world.win(0, world.slots[0]).await?;
    for _ in 0..3 {
        world.publish(vec![booking.clone(), booking.clone()]).await?;
    }
    let last = world.win(1, world.slots[0]).await?;
    world.publish(vec![last.clone()]).await?;
    world.eventually_row(last.id).await?;
    world.eventually_empty_outbox().await?;
    assert_eq!(world.counts().await?.booked, 2);
    world.assert_conserved().await
}

#[tokio::test]
async fn a_poison_booking_is_parked_while_its_neighbours_persist() -> Result<()> {
    let world = World::start(&[3]).await?;
    world.reconcile().await?;
    world.consume();
    let first = world.win(0, world.slots[0]).await?;
    let last = world.win(1, world.slots[0]).await?;
    let unknown = world.booking(2, world.slots[0], Epoch(77))?;
    let mut conflict = world.booking(3, world.slots[0], first.epoch)?;
    conflict.id = first.id;
    world.publish(vec![first.clone(), unknown.clone(), last.clone(), conflict]).await?;
    assert_eq!(world.eventually_row(first.id).await?.state, State::Booked);
    assert_eq!(world.eventually_row(last.id).await?.state, State::Booked);
    let parked = eventually_parked(&world, 2).await?;
    let reason_of = |id: BookingId| parked.iter().find(|row| row.booking == Some(id));
    let row = reason_of(unknown.id).context("parked")?;
    assert_eq!((row.reason.as_str(), row.replayable), ("unknown_allotment", true));
    assert_eq!(reason_of(first.id).context("parked")?.reason, "id_conflict");
    world.assert_conserved().await
}

#[tokio::test]
async fn a_booking_the_ledger_refuses_is_parked_alone_with_the_name_of_what_refused_it()
-> Result<()> {
    let world = World::start(&[1]).await?;
    world.reconcile().await?;
    let epoch = world.open_epoch().await?.epoch;
    // Nobody sold the second: it would take more than the epoch was granted.
    let bookings =
        vec![world.booking(0, world.slots[0], epoch)?, world.booking(1, world.slots[0], epoch)?];
    world.publish(bookings.clone()).await?;
    world.consume();
    let parked = eventually_parked(&world, 1).await?;
    assert_eq!(parked[0].reason, "epoch_slot_consumed_check");
    assert_eq!(parked[0].booking, Some(bookings[1].id));
    assert_eq!(world.eventually_row(bookings[0].id).await?.state, State::Booked);
    assert_eq!(world.counts().await?.booked, 1);
    Ok(())
}

/// The race: of two bookings of one patient the second goes in a wave of its own, and only that fails.
/// The database then says nothing of it, and the message must not be acknowledged for it.
#[tokio::test]
async fn what_a_later_wave_could_not_persist_is_parked_and_not_lost() -> Result<()> {
    let world = World::start(&[1]).await?;
    world.reconcile().await?;
    let epoch = world.open_epoch().await?.epoch;
    let bookings =
        vec![world.booking(0, world.slots[0], epoch)?, world.booking(0, world.slots[0], epoch)?];
    world.publish(bookings.clone()).await?;
    world.consume();
    let parked = eventually_parked(&world, 1).await?;
    assert_eq!(parked[0].reason, "epoch_slot_consumed_check");
    assert_eq!(parked[0].booking, Some(bookings[1].id));
    assert_eq!(world.eventually_row(bookings[0].id).await?.state, State::Booked);
    Ok(())
}

#[tokio::test]
async fn an_unreadable_message_is_parked_once_per_booking_it_may_hold() -> Result<()> {
    let world = World::start(&[1]).await?;
    world.reconcile().await?;
    let booking = world.booking(0, world.slots[0], Epoch(1))?;
    let envelope = booking::Envelope::new(vec![booking.clone()]);
    let message = |manifest| Delivered {
        message: Err("malformed at line 1, column 1".into()),
        body: b"{".to_vec(),
        manifest,
        redelivered: false,
    };
    let batch = [message(Some(envelope.manifest())), message(None)];
    let mut consumer = Consumer::of_partition(&world.servers);
    assert_eq!(consumer.handle(ONE, &batch).await, [Verdict::Ack, Verdict::Ack]);
    let parked = eventually_parked(&world, 2).await?;
    assert!(parked.iter().all(|row| row.reason == "undecodable" && !row.replayable));
    assert!(parked.iter().any(|row| row.booking == Some(booking.id)));
    Ok(())
}

#[tokio::test]
async fn a_second_booking_of_a_patient_is_rejected_and_gives_its_place_back() -> Result<()> {
    let world = World::start(&[2]).await?;
    world.reconcile().await?;
    world.consume();
    let first = world.book(0, world.slots[0]).await?;
    // What a lost Redis makes possible: it no longer knows the patient.
    let second = world.booking(0, world.slots[0], first.epoch)?;
    world.publish(vec![second.clone()]).await?;
    let row = world.eventually_row(second.id).await?;
    assert_eq!((row.state, row.reason), (State::Rejected, Some(Reason::AlreadyBooked)));
    assert_eq!(world.counts().await?.free, 1);
    Ok(())
}

#[tokio::test]
async fn persisting_is_back_two_seconds_after_postgresql() -> Result<()> {
    let mut postgres = Postgres::start().await?;
    let world = World::start_on_own(&postgres, &[5]).await?;
    world.reconcile().await?;
    world.consume();
    world.book(0, world.slots[0]).await?;
    let epoch = world.open_epoch().await?.epoch;
    postgres.kill().await?;
    let booking = world.booking(1, world.slots[0], epoch)?;
    world.servers.inventory.hold(ONE, &booking, booking.accepted_at).await?;
    world.publish(vec![booking.clone()]).await?;
    assert!(world.row(booking.id).await.is_err(), "PostgreSQL is down");
    postgres.restart().await?;
    let back = std::time::Instant::now();
    let row = world.eventually_row(booking.id).await?;
    assert_eq!(row.state, State::Booked);
    assert!(back.elapsed().as_millis() < 2000, "took {:?}", back.elapsed());
    world.eventually_empty_outbox().await?;
    assert_eq!(world.servers.ledger.parked(None, 10).await?, []);
    world.assert_conserved().await
}
