//! W1 and W2: bookings become rows, once.

use anyhow::Result;
use booking::{BookingId, Digest, Epoch, PatientId, Reason};
use ledger::persist::Outcome;

use crate::world::{P0, P1, World, booking, bookings, lost, persist_sql, places, refusal, won};

#[tokio::test]
async fn winners_get_numbers_in_the_order_of_the_batch() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let mut batch = bookings(3, slot);
    batch.reverse();
    assert_eq!(world.persist(&batch).await?, [won(1), won(2), won(3)]);
    assert_eq!(world.persist_one(&booking(4, slot, 4)).await?, won(4));
    assert_eq!(world.places(slot).await?, places(4, 1, 4));
    assert_eq!(world.allotment(1, slot).await?, (5, 4));
    world.assert_sound().await
}

#[tokio::test]
async fn a_batch_delivered_twice_gets_the_same_answers_and_changes_nothing() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let batch = bookings(3, slot);
    let first = world.persist(&batch).await?;
    assert_eq!(world.persist(&batch).await?, first);
    assert_eq!(world.places(slot).await?, places(3, 2, 3));
    world.assert_sound().await
}

#[tokio::test]
async fn a_batch_of_known_and_new_bookings_counts_only_the_new() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.persist(&bookings(2, slot)).await?;
    let answers = world.persist(&bookings(4, slot)).await?;
    assert_eq!(answers, [won(1), won(2), won(3), won(4)]);
    assert_eq!(world.places(slot).await?, places(4, 1, 4));
    world.assert_sound().await
}

#[tokio::test]
async fn a_batch_over_several_slots_counts_each() -> Result<()> {
    let world = World::new().await?;
    let session = world.session(P0, 7, &[2, 3]).await?;
    let [first, second] = [0, 1].map(|ordinal| booking::SlotId::of(session, ordinal));
    world.open_first(P0).await?;
    let batch = [booking(1, second, 1), booking(2, first, 2), booking(3, second, 3)];
    assert_eq!(world.persist(&batch).await?, [won(1), won(1), won(2)]);
    assert_eq!(world.places(first).await?, places(1, 1, 1));
    assert_eq!(world.places(second).await?, places(2, 1, 2));
    world.assert_sound().await
}

#[tokio::test]
async fn an_empty_batch_is_no_work() -> Result<()> {
    let (world, _) = World::on_offer(1).await?;
    assert_eq!(world.persist(&[]).await?, []);
    Ok(())
}

#[tokio::test]
async fn a_known_id_with_another_patient_is_a_conflict() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.persist_one(&booking(1, slot, 1)).await?;
    assert_eq!(world.persist_one(&booking(1, slot, 2)).await?, Outcome::IdConflict);
    assert_eq!(world.places(slot).await?, places(1, 4, 1));
    Ok(())
}

#[tokio::test]
async fn a_known_id_with_another_slot_is_a_conflict() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let other = world.session(P0, 8, &[5]).await?;
    world.ledger.top_up(P0, Epoch(1)).await?;
    world.persist_one(&booking(1, slot, 1)).await?;
    let moved = booking(1, booking::SlotId::of(other, 0), 1);
    assert_eq!(world.persist_one(&moved).await?, Outcome::IdConflict);
    world.assert_sound().await
}

#[tokio::test]
async fn a_known_id_with_another_epoch_is_a_conflict() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.persist_one(&booking(1, slot, 1)).await?;
    world.open(P0, 1, "second").await?;
    let mut later = booking(1, slot, 1);
    later.epoch = Epoch(2);
    assert_eq!(world.persist_one(&later).await?, Outcome::IdConflict);
    world.assert_sound().await
}

#[tokio::test]
async fn what_was_never_granted_is_an_unknown_allotment() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let ungranted = world.session(P0, 8, &[5]).await?;
    let mut of_no_epoch = booking(1, slot, 1);
    of_no_epoch.epoch = Epoch(7);
    let of_no_grant = booking(2, booking::SlotId::of(ungranted, 0), 2);
    assert_eq!(
        world.persist(&[of_no_epoch, of_no_grant, booking(3, slot, 3)]).await?,
        [Outcome::UnknownAllotment, Outcome::UnknownAllotment, won(1)]
    );
    world.open_first(P1).await?;
    let elsewhere = world.ledger.persist(P1, &[booking(4, slot, 4)]).await?;
    assert_eq!(elsewhere[0].outcome, Outcome::UnknownAllotment);
    world.assert_sound().await
}

#[tokio::test]
async fn a_booking_of_a_closed_epoch_is_late_and_uses_nothing() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.open(P0, 1, "second").await?;
    world.ledger.record_drained(P0, Epoch(1)).await?;
    world.ledger.close_epoch(P0, Epoch(1)).await?;
    let before = world.places(slot).await?;
    assert_eq!(world.persist_one(&booking(1, slot, 1)).await?, lost(Reason::Late));
    assert_eq!(world.persist_one(&booking(1, slot, 1)).await?, lost(Reason::Late));
    assert_eq!(world.places(slot).await?, before);
    assert_eq!(world.allotment(1, slot).await?, (5, 0));
    world.assert_sound().await
}

#[tokio::test]
async fn a_booking_of_a_sealed_epoch_still_wins() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.open(P0, 1, "second").await?;
    assert_eq!(world.persist_one(&booking(1, slot, 1)).await?, won(1));
    assert_eq!(world.places(slot).await?, places(1, 4, 1));
    world.assert_sound().await
}

#[tokio::test]
async fn bookings_of_two_epochs_share_a_slot_and_its_numbers() -> Result<()> {
    let (world, slot) = World::on_offer(2).await?;
    world.run("UPDATE slot SET capacity = 4, target = 4").await?;
    world.open(P0, 1, "second").await?;
    let mut second = booking(2, slot, 2);
    second.epoch = Epoch(2);
    let batch = [booking(1, slot, 1), second, booking(3, slot, 3)];
    assert_eq!(world.persist(&batch).await?, [won(1), won(2), won(3)]);
    assert_eq!(world.places(slot).await?, places(3, 1, 3));
    assert_eq!(world.allotment(1, slot).await?, (2, 2));
    assert_eq!(world.allotment(2, slot).await?, (2, 1));
    world.assert_sound().await
}

#[tokio::test]
async fn a_rejected_booking_uses_its_quota_but_no_place_and_no_number() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.persist_one(&booking(1, slot, 1)).await?;
    let again = booking(2, slot, 1);
    assert_eq!(world.persist_one(&again).await?, lost(Reason::AlreadyBooked));
    assert_eq!(world.places(slot).await?, places(1, 3, 1));
    assert_eq!(world.allotment(1, slot).await?, (5, 2));
    assert_eq!(world.persist_one(&booking(3, slot, 3)).await?, won(2));
    world.assert_sound().await
}

#[tokio::test]
async fn more_bookings_than_were_granted_are_refused_by_the_check() -> Result<()> {
    let (world, slot) = World::on_offer(2).await?;
    world.run("UPDATE slot SET capacity = 9").await?;
    let refused = world.ledger.persist(P0, &bookings(3, slot)).await;
    assert_eq!(refusal(refused), "epoch_slot_consumed_check");
    assert_eq!(world.places(slot).await?, places(0, 2, 0));
    world.persist(&bookings(2, slot)).await?;
    world.assert_sound().await
}

#[tokio::test]
async fn a_forged_grant_cannot_oversell() -> Result<()> {
    let (world, slot) = World::on_offer(2).await?;
    world.run("UPDATE epoch_slot SET granted = 1000").await?;
    let refused = world.ledger.persist(P0, &bookings(3, slot)).await;
    assert_eq!(refusal(refused), "slot_places_check");
    assert_eq!(world.places(slot).await?, places(0, 2, 0));
    assert_eq!(world.number("SELECT count(*) FROM booking").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_patient_twice_in_a_batch_is_judged_in_order() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let batch = [booking(1, slot, 1), booking(2, slot, 1), booking(3, slot, 3)];
    let answers = world.persist(&batch).await?;
    assert_eq!(answers, [won(1), lost(Reason::AlreadyBooked), won(2)]);
    world.assert_sound().await
}

#[tokio::test]
async fn an_id_twice_in_a_batch_is_one_row() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let answers = world.persist(&[booking(1, slot, 1), booking(1, slot, 1)]).await?;
    assert_eq!(answers, [won(1), won(1)]);
    assert_eq!(world.places(slot).await?, places(1, 4, 1));
    world.assert_sound().await
}

#[tokio::test]
async fn a_wave_with_a_patient_or_an_id_twice_is_refused() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    for (ids, patients) in [([1, 2], [1, 1]), ([1, 1], [1, 2])] {
        let answer = sqlx::query(
            "SELECT * FROM persist_bookings(0::smallint, $1, ARRAY[1, 1], ARRAY[$3, $3], $2,
                 ARRAY[1, 1], ARRAY['\\x01', '\\x02']::bytea[], ARRAY['\\x01', '\\x02']::bytea[],
                 ARRAY[0, 0])",
        )
        .bind(ids.map(i64::from))
        .bind(patients.map(i64::from))
        .bind(slot.get())
        .fetch_all(&world.sql)
        .await;
        let error = answer.expect_err("refused");
        assert_eq!(
            error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref(),
            Some("SR002")
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_fails_in_a_later_wave_is_missing_and_the_rest_is_told() -> Result<()> {
    let (world, slot) = World::on_offer(1).await?;
    let persisted = world.ledger.persist(P0, &[booking(1, slot, 1), booking(2, slot, 1)]).await?;
    assert_eq!(persisted.iter().map(|p| p.id).collect::<Vec<_>>(), [BookingId::from(1 << 22)]);
    world.assert_sound().await
}

#[tokio::test]
async fn a_row_is_the_booking_as_it_was_accepted() -> Result<()> {
    let (world, slot) = World::on_offer(1).await?;
    let mut accepted = booking(1, slot, 1);
    accepted.key = Digest::of_key("mine");
    world.persist_one(&accepted).await?;
    let rows = world.ledger.find_bookings(&[accepted.id, BookingId::from(99)]).await?;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].booking, accepted);
    assert_eq!((rows[0].number, rows[0].version), (Some(1), 1));
    assert!(rows[0].changed_at >= rows[0].persisted_at);
    assert_eq!(rows[0].booking.patient, PatientId::from(1));
    Ok(())
}

#[tokio::test]
async fn every_change_of_a_slots_counters_counts_in_its_version() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let version = "SELECT version FROM slot";
    let mut versions = vec![world.number(version).await?];
    world.persist(&bookings(2, slot)).await?;
    versions.push(world.number(version).await?);
    world.ledger.cancel(booking(1, slot, 1).id, 1.into()).await?;
    versions.push(world.number(version).await?);
    world.ledger.top_up(P0, Epoch(1)).await?;
    versions.push(world.number(version).await?);
    world.ledger.freeze(P0, Epoch(1), &[(slot, 3)]).await?;
    versions.push(world.number(version).await?);
    world.ledger.record_drained(P0, Epoch(1)).await?;
    world.ledger.close_epoch(P0, Epoch(1)).await?;
    versions.push(world.number(version).await?);
    let first = versions[0];
    assert_eq!(versions, (first..first + 6).collect::<Vec<_>>());
    world.assert_sound().await
}

/// All that its patient ever had was read, each with its session, for every further booking.
#[tokio::test]
async fn a_booking_is_judged_without_a_look_at_all_its_patient_ever_had() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.persist_one(&booking(1, slot, 1)).await?;
    // Every second one was cancelled; the others were of sessions long ago.
    let had = "
        SET session_replication_role = replica;
        INSERT INTO booking (id, partition, e, session_id, slot_id, patient_id, account_id,
            key_digest, request_digest, state, number, accepted_at, held_hospital_id, held_on)
        SELECT 1000 + n, 0, 1, 1000 + n, (1000 + n) * 256, 2, 1,
            int4send(n), '\\x01', state, 1000 + n, now(),
            CASE state WHEN 'booked' THEN 1 END,
            CASE state WHEN 'booked' THEN current_date - n END
        FROM generate_series(1, 1000) n,
            LATERAL (SELECT CASE n % 2 WHEN 0 THEN 'cancelled' ELSE 'booked' END) kind (state);
        SET session_replication_role = origin";
    world.run(had).await?;
    // Of this transaction: what another one read is not counted.
    let mut transaction = world.sql.begin().await?;
    let second = persist_sql(0, 2, slot, 2);
    sqlx::raw_sql(sqlx::AssertSqlSafe(second)).execute(&mut *transaction).await?;
    let looked_at: i64 = sqlx::query_scalar(
        "SELECT seq_tup_read + idx_tup_fetch
         FROM pg_stat_xact_user_tables
         WHERE relname = 'booking'",
    )
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    assert_eq!(world.places(slot).await?, places(2, 3, 2));
    assert!(looked_at < 10, "{looked_at} bookings were looked at");
    Ok(())
}
