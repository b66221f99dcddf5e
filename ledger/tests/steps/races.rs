//! Steps that meet. Where a race has an order, one side is held in an open transaction.

use anyhow::Result;
use booking::{AccountId, Booking, BookingId, Epoch, Reason, SlotId};
use ledger::booking_row::{Cancelled, Lapsed};
use ledger::epoch::{Closed, Opened};
use ledger::parked::{Parked, Replayed};
use ledger::persist::Persisted;
use sqlx::{Postgres, Transaction};
use tokio::task::{JoinHandle, JoinSet};

use crate::world::{P0, P1, World, booking, bookings, lost, persist_sql, places, won};

pub(crate) type Answer<T> = JoinHandle<Result<T, ledger::Error>>;

fn persisting(world: &World, batch: &[Booking]) -> Answer<Vec<Persisted>> {
    let (ledger, batch) = (world.ledger.clone(), batch.to_vec());
    tokio::spawn(async move { ledger.persist(P0, &batch).await })
}

pub(crate) fn cancelling(world: &World, id: BookingId) -> Answer<Cancelled> {
    let ledger = world.ledger.clone();
    tokio::spawn(async move { ledger.cancel(id, AccountId::from(1)).await })
}

/// Opens a transaction that has done `sql`.
pub(crate) async fn holding(world: &World, sql: &str) -> Result<Transaction<'static, Postgres>> {
    let mut holder = world.sql.begin().await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *holder).await?;
    Ok(holder)
}

#[tokio::test]
async fn two_persists_of_the_same_batch_make_one_row_each() -> Result<()> {
    let (world, slot) = World::on_offer(50).await?;
    let batch = bookings(40, slot);
    for _ in 0..5 {
        let both = [persisting(&world, &batch), persisting(&world, &batch)];
        for one in both {
            assert_eq!(one.await??.len(), batch.len());
        }
    }
    assert_eq!(world.places(slot).await?, places(40, 10, 40));
    world.assert_sound().await
}

#[tokio::test]
async fn a_persist_waits_for_the_close_of_its_epoch_and_is_then_late() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.open(P0, 1, "second").await?;
    world.ledger.record_drained(P0, Epoch(1)).await?;
    let mut closing = holding(&world, "SELECT FROM epoch WHERE e = 1 FOR UPDATE").await?;
    let persist = persisting(&world, &[booking(1, slot, 1)]);
    world.until_blocked(1).await?;
    sqlx::query("SELECT close_epoch(0::smallint, 1)").execute(&mut *closing).await?;
    closing.commit().await?;
    assert_eq!(persist.await??[0].outcome, lost(Reason::Late));
    assert_eq!(world.places(slot).await?, places(0, 0, 0));
    world.assert_sound().await
}

#[tokio::test]
async fn a_close_waits_for_a_persist_and_counts_it() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.open(P0, 1, "second").await?;
    world.ledger.record_drained(P0, Epoch(1)).await?;
    let persist = holding(&world, &persist_sql(0, 1, slot, 1)).await?;
    let ledger = world.ledger.clone();
    let close = tokio::spawn(async move { ledger.close_epoch(P0, Epoch(1)).await });
    world.until_blocked(1).await?;
    persist.commit().await?;
    assert_eq!(close.await??, Closed::Done);
    assert_eq!(world.places(slot).await?, places(1, 0, 1));
    world.assert_sound().await
}

#[tokio::test]
async fn a_patients_limits_hold_between_two_partitions() -> Result<()> {
    let world = World::new().await?;
    world.run("UPDATE hospital SET per_day_max = 1").await?;
    let here = SlotId::of(world.session(P0, 7, &[5]).await?, 0);
    let there = SlotId::of(world.session(P1, 7, &[5]).await?, 0);
    world.open_first(P0).await?;
    world.open_first(P1).await?;
    let other = holding(&world, &persist_sql(1, 2, there, 1)).await?;
    let persist = persisting(&world, &[booking(1, here, 1)]);
    world.until_blocked(1).await?;
    other.commit().await?;
    assert_eq!(persist.await??[0].outcome, lost(Reason::LimitReached));
    world.assert_sound().await
}

#[tokio::test]
async fn an_id_that_gets_its_row_between_judging_and_writing_keeps_that_row() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let pending = booking(1, slot, 1);
    let insert = format!(
        "INSERT INTO booking (id, partition, e, session_id, slot_id, patient_id, account_id,
             key_digest, request_digest, state, reason, accepted_at)
         VALUES ({}, 0, 1, {}, {slot}, 1, 1, '\\x01', '\\x01', 'rejected', 'lapsed', now())",
        pending.id,
        slot.session()
    );
    let other = holding(&world, &insert).await?;
    let persist = persisting(&world, std::slice::from_ref(&pending));
    world.until_blocked(1).await?;
    other.commit().await?;
    assert_eq!(persist.await??[0].outcome, lost(Reason::Lapsed));
    assert_eq!(world.places(slot).await?, places(0, 5, 0));
    world.assert_sound().await
}

#[tokio::test]
async fn a_slot_that_changes_between_judging_and_writing_is_judged_again() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let other =
        holding(&world, "UPDATE slot SET issued = issued + 1, version = version + 1").await?;
    let persist = persisting(&world, &[booking(1, slot, 1)]);
    world.until_blocked(1).await?;
    other.commit().await?;
    assert_eq!(persist.await??[0].outcome, won(2), "number 1 is somebody else's");
    assert_eq!(world.places(slot).await?, places(1, 4, 2));
    world.assert_sound().await
}

#[tokio::test]
async fn a_cancel_and_a_persist_of_one_slot_both_count() -> Result<()> {
    let (world, slot) = World::on_offer(60).await?;
    world.persist(&bookings(20, slot)).await?;
    let mut cancels = JoinSet::new();
    for n in 1..=20 {
        let cancel = cancelling(&world, booking(n, slot, n).id);
        cancels.spawn(async move { cancel.await?.map_err(anyhow::Error::from) });
    }
    for n in 21..=40 {
        world.persist_one(&booking(n, slot, n)).await?;
    }
    while let Some(cancelled) = cancels.join_next().await {
        assert!(matches!(cancelled??, Cancelled::Done(_)));
    }
    assert_eq!(world.places(slot).await?, places(20, 20, 40));
    world.assert_sound().await
}

#[tokio::test]
async fn two_cancels_free_one_place() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let live = booking(1, slot, 1);
    world.persist_one(&live).await?;
    // Both have read the row as live before either writes.
    let reader = holding(&world, "SELECT FROM booking FOR UPDATE").await?;
    let both = [cancelling(&world, live.id), cancelling(&world, live.id)];
    world.until_blocked(2).await?;
    reader.commit().await?;
    let mut done = 0;
    for one in both {
        done += i32::from(matches!(one.await??, Cancelled::Done(_)));
    }
    assert_eq!(done, 1);
    assert_eq!(world.places(slot).await?, places(0, 4, 1));
    world.assert_sound().await
}

#[tokio::test]
async fn of_two_reconcilers_opening_one_epoch_one_is_overtaken() -> Result<()> {
    let world = World::new().await?;
    let slot = SlotId::of(world.session(P0, 7, &[5]).await?, 0);
    for current in 0..4 {
        let opens = ["a", "b"].map(|name| {
            let (ledger, nonce) = (world.ledger.clone(), booking::Nonce(name.to_owned()));
            tokio::spawn(async move {
                ledger.open_epoch(P0, Epoch(current), &crate::world::term(), &nonce).await
            })
        });
        let mut opened = Vec::new();
        for open in opens {
            opened.push(open.await??);
        }
        opened.sort_by_key(|outcome| *outcome == Opened::Overtaken);
        assert_eq!(opened, [Opened::Epoch(Epoch(current + 1)), Opened::Overtaken]);
    }
    assert_eq!(world.places(slot).await?, places(0, 5, 0));
    world.assert_sound().await
}

#[tokio::test]
async fn the_loser_of_the_first_open_is_overtaken_even_if_it_saw_nothing() -> Result<()> {
    let world = World::new().await?;
    world.session(P0, 7, &[5]).await?;
    let first = holding(&world, "SELECT open_epoch(0::smallint, 0, 'r', 'r', 'theirs')").await?;
    let ledger = world.ledger.clone();
    let second = tokio::spawn(async move {
        let nonce = booking::Nonce("mine".to_owned());
        ledger.open_epoch(P0, Epoch::NONE, &crate::world::term(), &nonce).await
    });
    world.until_blocked(1).await?;
    first.commit().await?;
    assert_eq!(second.await??, Opened::Overtaken);
    world.assert_sound().await
}

#[tokio::test]
async fn an_open_that_meets_another_at_the_key_of_the_open_epoch_is_overtaken() -> Result<()> {
    let world = World::new().await?;
    // Only this key is in common: the primary key, which ON CONFLICT names, sees nothing.
    let insert =
        "INSERT INTO epoch (partition, e, run_id, replid, nonce) VALUES (0, 7, 'r', 'r', 'n')";
    let first = holding(&world, insert).await?;
    let ledger = world.ledger.clone();
    let second = tokio::spawn(async move {
        let nonce = booking::Nonce("mine".to_owned());
        ledger.open_epoch(P0, Epoch::NONE, &crate::world::term(), &nonce).await
    });
    world.until_blocked(1).await?;
    first.commit().await?;
    assert_eq!(second.await??, Opened::Overtaken);
    Ok(())
}

#[tokio::test]
async fn an_open_that_waits_for_a_persist_grants_all_that_is_free() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.ledger.freeze(P0, Epoch(1), &[(slot, 1)]).await?;
    let persist = holding(&world, &persist_sql(0, 1, slot, 1)).await?;
    let ledger = world.ledger.clone();
    let open = tokio::spawn(async move {
        let nonce = booking::Nonce("mine".to_owned());
        ledger.open_epoch(P0, Epoch(1), &crate::world::term(), &nonce).await
    });
    world.until_blocked(1).await?;
    persist.commit().await?;
    assert_eq!(open.await??, Opened::Epoch(Epoch(2)));
    assert_eq!(world.places(slot).await?, places(1, 4, 1));
    world.assert_sound().await
}

#[tokio::test]
async fn a_top_up_waits_for_an_open_and_then_grants_nothing_to_the_sealed() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.run("UPDATE slot SET capacity = 8, target = 8").await?;
    let mut opening = holding(&world, "SELECT FROM epoch FOR UPDATE").await?;
    let ledger = world.ledger.clone();
    let top_up = tokio::spawn(async move { ledger.top_up(P0, Epoch(1)).await });
    world.until_blocked(1).await?;
    sqlx::query("SELECT open_epoch(0::smallint, 1, 'r', 'r', 'n')").execute(&mut *opening).await?;
    opening.commit().await?;
    assert_eq!(top_up.await??, []);
    assert_eq!(world.allotment(2, slot).await?, (3, 0));
    world.assert_sound().await
}

#[tokio::test]
async fn top_ups_persists_and_cancels_together_lose_nothing() -> Result<()> {
    let (world, slot) = World::on_offer(10).await?;
    let mut work = JoinSet::new();
    for n in 1..=30_i64 {
        let ledger = world.ledger.clone();
        work.spawn(async move {
            let mine = booking(n, slot, n);
            // Sold out until somebody cancels and a top-up finds it: then the check refuses.
            for _ in 0..20 {
                match ledger.persist(P0, std::slice::from_ref(&mine)).await {
                    Ok(_) => break,
                    Err(ledger::Error::Refused { .. } | ledger::Error::Contended) => {}
                    Err(error) => return Err(error),
                }
                ledger.top_up(P0, Epoch(1)).await?;
            }
            ledger.cancel(mine.id, AccountId::from(1)).await?;
            ledger.top_up(P0, Epoch(1)).await?;
            Ok(())
        });
    }
    while let Some(done) = work.join_next().await {
        done??;
    }
    world.ledger.top_up(P0, Epoch(1)).await?;
    let left = world.places(slot).await?;
    assert_eq!(left.booked + left.escrowed, 10, "{left:?}");
    world.assert_sound().await
}

#[tokio::test]
async fn a_top_up_that_meets_a_cancel_leaves_the_slot_to_the_next() -> Result<()> {
    let (world, slot) = World::on_offer(9).await?;
    world.persist(&bookings(4, slot)).await?;
    world.run("UPDATE slot SET capacity = 10, target = 10").await?;
    let id = booking(1, slot, 1).id;
    let cancel = holding(&world, &format!("SELECT cancel_booking({id}, 1)")).await?;
    let ledger = world.ledger.clone();
    let top_up = tokio::spawn(async move { ledger.top_up(P0, Epoch(1)).await });
    world.until_blocked(1).await?;
    cancel.commit().await?;
    // Not refused, though the places it read are not those of the row it began with.
    assert_eq!(top_up.await??, []);
    assert_eq!(world.ledger.top_up(P0, Epoch(1)).await?[0].granted, 11);
    assert_eq!(world.places(slot).await?, places(3, 7, 4));
    world.assert_sound().await
}

#[tokio::test]
async fn two_closes_give_the_unused_back_once() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.open(P0, 1, "second").await?;
    world.ledger.record_drained(P0, Epoch(1)).await?;
    let first = holding(&world, "SELECT close_epoch(0::smallint, 1)").await?;
    let ledger = world.ledger.clone();
    let second = tokio::spawn(async move { ledger.close_epoch(P0, Epoch(1)).await });
    world.until_blocked(1).await?;
    first.commit().await?;
    assert_eq!(second.await??, Closed::Done);
    assert_eq!(world.places(slot).await?, places(0, 0, 0));
    world.assert_sound().await
}

#[tokio::test]
async fn a_freeze_waits_for_an_open_and_then_leaves_the_sealed_epoch_alone() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let opening = holding(&world, "SELECT open_epoch(0::smallint, 1, 'r', 'r', 'n')").await?;
    let ledger = world.ledger.clone();
    let freeze = tokio::spawn(async move { ledger.freeze(P0, Epoch(1), &[(slot, 0)]).await });
    world.until_blocked(1).await?;
    opening.commit().await?;
    assert_eq!(freeze.await??, Closed::NotYet);
    assert_eq!(world.places(slot).await?, places(0, 5, 0));
    world.assert_sound().await
}

#[tokio::test]
async fn a_lapse_waits_for_an_open_and_is_then_too_early() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let opening = holding(&world, "SELECT open_epoch(0::smallint, 1, 'r', 'r', 'n')").await?;
    let (ledger, pending) = (world.ledger.clone(), booking(1, slot, 1));
    let lapse = tokio::spawn(async move { ledger.lapse(&pending).await });
    world.until_blocked(1).await?;
    opening.commit().await?;
    assert_eq!(lapse.await??, Lapsed::NotYet);
    Ok(())
}

#[tokio::test]
async fn a_discard_and_a_replay_of_one_row_have_one_winner() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.ledger.park(P0, "test", "", &[Parked::Booking(booking(1, slot, 1))]).await?;
    let id = world.ledger.parked(None, 1).await?[0].id;
    let discard = holding(&world, "DELETE FROM parked").await?;
    let ledger = world.ledger.clone();
    let replay = tokio::spawn(async move { ledger.replay_parked(id).await });
    world.until_blocked(1).await?;
    discard.commit().await?;
    assert_eq!(replay.await??, Replayed::NotFound);
    assert_eq!(world.number("SELECT count(*) FROM booking").await?, 0);
    Ok(())
}
