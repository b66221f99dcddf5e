//! Why a booking of W1 loses: withdrawn, superseded, already booked, over a limit.

use anyhow::Result;
use booking::{AccountId, Digest, Epoch, Reason, SlotId, State};
use ledger::persist::Outcome;

use crate::world::{P0, World, booking, lost, places, won};

/// A world with one-slot sessions of departments on days ahead, all on offer.
async fn sessions(limits: &str, of: &[(i64, i32)]) -> Result<(World, Vec<SlotId>)> {
    let world = World::new().await?;
    world.run(&format!("UPDATE hospital SET {limits} WHERE id = 1")).await?;
    let mut slots = Vec::new();
    for (department, days) in of {
        let session = world.session_of(*department, P0, *days, &[5]).await?;
        slots.push(SlotId::of(session, 0));
    }
    world.open_first(P0).await?;
    Ok((world, slots))
}

#[tokio::test]
async fn a_booking_of_a_withdrawn_session_is_rejected_as_withdrawn() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.run("UPDATE session SET withdrawn_at = now()").await?;
    assert_eq!(world.persist_one(&booking(1, slot, 1)).await?, lost(Reason::Withdrawn));
    assert_eq!(world.places(slot).await?, places(0, 4, 0));
    world.assert_sound().await
}

#[tokio::test]
async fn withdrawn_comes_before_superseded_before_already_booked_before_the_limits() -> Result<()> {
    let (world, slots) = sessions("per_day_max = 1", &[(1, 7)]).await?;
    let first = booking(1, slots[0], 1);
    world.persist_one(&first).await?;
    let mut same_key = booking(2, slots[0], 1);
    same_key.key = first.key;
    assert_eq!(world.persist_one(&same_key).await?, lost(Reason::Superseded));
    let other_key = booking(3, slots[0], 1);
    assert_eq!(world.persist_one(&other_key).await?, lost(Reason::AlreadyBooked));
    world.run("UPDATE session SET withdrawn_at = now()").await?;
    let mut third = booking(4, slots[0], 1);
    third.key = first.key;
    assert_eq!(world.persist_one(&third).await?, lost(Reason::Withdrawn));
    world.assert_sound().await
}

#[tokio::test]
async fn a_key_that_stands_supersedes_and_the_row_says_which() -> Result<()> {
    let (world, slots) = sessions("per_day_max = NULL", &[(1, 7), (1, 8)]).await?;
    let first = booking(1, slots[0], 1);
    let mut second = booking(2, slots[1], 1);
    second.key = first.key;
    assert_eq!(world.persist(&[first.clone(), second]).await?, [won(1), lost(Reason::Superseded)]);
    let by = "SELECT superseded_by FROM booking WHERE reason = 'superseded'";
    assert_eq!(world.number(by).await?, first.id.get());
    world.assert_sound().await
}

#[tokio::test]
async fn a_cancelled_booking_still_holds_its_key_but_not_its_session() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let first = booking(1, slot, 1);
    world.persist_one(&first).await?;
    world.ledger.cancel(first.id, AccountId::from(1)).await?;
    let mut same_key = booking(2, slot, 1);
    same_key.key = first.key;
    assert_eq!(world.persist_one(&same_key).await?, lost(Reason::Superseded));
    assert_eq!(world.persist_one(&booking(3, slot, 1)).await?, won(2));
    world.assert_sound().await
}

#[tokio::test]
async fn a_rejected_booking_holds_neither_key_nor_session() -> Result<()> {
    let (world, slots) = sessions("per_day_max = 1", &[(1, 7), (1, 7)]).await?;
    let held = booking(1, slots[0], 1);
    let refused = booking(2, slots[1], 1);
    assert_eq!(world.persist_one(&held).await?, won(1));
    assert_eq!(world.persist_one(&refused).await?, lost(Reason::LimitReached));
    world.ledger.cancel(held.id, AccountId::from(1)).await?;
    let mut again = booking(3, slots[1], 1);
    again.key = refused.key;
    assert_eq!(world.persist_one(&again).await?, won(1));
    world.assert_sound().await
}

#[tokio::test]
async fn the_same_key_of_another_patient_is_another_key() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    for patient in 1..=2 {
        let mut same = booking(patient, slot, patient);
        same.key = Digest::of_key("same");
        assert!(matches!(
            world.persist_one(&same).await?,
            Outcome::Row { state: State::Booked, .. }
        ));
    }
    Ok(())
}

#[tokio::test]
async fn a_patient_is_live_once_per_session_whatever_the_slot() -> Result<()> {
    let world = World::new().await?;
    let session = world.session(P0, 7, &[5, 5]).await?;
    world.open_first(P0).await?;
    world.persist_one(&booking(1, SlotId::of(session, 0), 1)).await?;
    let other_slot = booking(2, SlotId::of(session, 1), 1);
    assert_eq!(world.persist_one(&other_slot).await?, lost(Reason::AlreadyBooked));
    world.assert_sound().await
}

#[tokio::test]
async fn the_daily_limit_counts_one_date_over_departments() -> Result<()> {
    let (world, slots) = sessions("per_day_max = 2", &[(1, 7), (2, 7), (2, 7), (1, 8)]).await?;
    let batch = [0, 1, 2, 3].map(|at| booking(at + 1, slots[usize::try_from(at).unwrap_or(0)], 1));
    let answers = world.persist(&batch).await?;
    assert_eq!(answers, [won(1), won(1), lost(Reason::LimitReached), won(1)]);
    world.assert_sound().await
}

#[tokio::test]
async fn the_departments_daily_limit_counts_one_date_and_department() -> Result<()> {
    let of = [(1, 7), (1, 7), (2, 7), (1, 8)];
    let (world, slots) = sessions("per_department_day_max = 1", &of).await?;
    let batch = [0, 1, 2, 3].map(|at| booking(at + 1, slots[usize::try_from(at).unwrap_or(0)], 1));
    let answers = world.persist(&batch).await?;
    assert_eq!(answers, [won(1), lost(Reason::LimitReached), won(1), won(1)]);
    world.assert_sound().await
}

#[tokio::test]
async fn the_weekly_limit_counts_six_days_either_way() -> Result<()> {
    let of = [(1, 20), (1, 14), (1, 26), (1, 13), (1, 27)];
    let (world, slots) = sessions("per_week_max = 1", &of).await?;
    let batch =
        [0, 1, 2, 3, 4].map(|at| booking(at + 1, slots[usize::try_from(at).unwrap_or(0)], 1));
    let answers = world.persist(&batch).await?;
    let limit = lost(Reason::LimitReached);
    assert_eq!(answers, [won(1), limit, limit, won(1), won(1)]);
    world.assert_sound().await
}

#[tokio::test]
async fn the_limits_are_the_hospitals_own_and_count_its_live_bookings_only() -> Result<()> {
    let (world, slots) = sessions("per_day_max = 1", &[(1, 7), (1, 7)]).await?;
    world
        .run(
            "INSERT INTO hospital (name, time_zone, per_day_max) VALUES ('West', 'Asia/Shanghai', 1);
             INSERT INTO department (hospital_id, name) VALUES (2, 'Eyes')",
        )
        .await?;
    let elsewhere = SlotId::of(world.session_of(3, P0, 7, &[5]).await?, 0);
    world.ledger.top_up(P0, Epoch(1)).await?;
    assert_eq!(world.persist_one(&booking(1, slots[0], 1)).await?, won(1));
    assert_eq!(world.persist_one(&booking(2, elsewhere, 1)).await?, won(1));
    assert_eq!(world.persist_one(&booking(3, slots[1], 1)).await?, lost(Reason::LimitReached));
    let first = booking(1, slots[0], 1).id;
    world.ledger.cancel(first, AccountId::from(1)).await?;
    assert_eq!(world.persist_one(&booking(4, slots[1], 1)).await?, won(1));
    world.assert_sound().await
}
