//! The audit finds what is broken, whatever broke it.

use anyhow::Result;

use crate::world::{World, booking, bookings};

/// Breaks a sound ledger and returns the names of the invariants that are then found broken.
async fn found_after(corruption: &str) -> Result<Vec<&'static str>> {
    let (world, slot) = World::on_offer(5).await?;
    world.persist(&bookings(2, slot)).await?;
    world.persist_one(&booking(3, slot, 1)).await?;
    world.open(crate::world::P0, 1, "second").await?;
    world.assert_sound().await?;
    world.run(corruption).await?;
    let mut names: Vec<_> =
        world.ledger.audit().await?.iter().map(|violation| violation.invariant).collect();
    names.dedup();
    Ok(names)
}

#[tokio::test]
async fn a_count_that_is_not_the_live_rows_breaks_i1() -> Result<()> {
    assert_eq!(found_after("UPDATE slot SET booked = booked - 1").await?, ["I1"]);
    let killed = "UPDATE booking SET state = 'cancelled' WHERE patient_id = 2";
    assert_eq!(found_after(killed).await?, ["I1"]);
    Ok(())
}

#[tokio::test]
async fn more_than_the_capacity_breaks_i1_and_i2() -> Result<()> {
    let oversold = "ALTER TABLE slot DROP CONSTRAINT slot_places_check;
                    UPDATE slot SET capacity = 1";
    assert_eq!(found_after(oversold).await?, ["I1", "I2"]);
    Ok(())
}

#[tokio::test]
async fn escrow_that_no_epoch_holds_breaks_i2() -> Result<()> {
    assert_eq!(found_after("UPDATE slot SET escrowed = escrowed - 1").await?, ["I2"]);
    assert_eq!(found_after("UPDATE epoch_slot SET granted = granted + 1").await?, ["I2"]);
    assert_eq!(found_after("UPDATE epoch SET state = 'closed' WHERE e = 1").await?, ["I2"]);
    let negative = "ALTER TABLE slot DROP CONSTRAINT slot_places_check;
                    UPDATE slot SET escrowed = -1";
    assert_eq!(found_after(negative).await?, ["I2"]);
    Ok(())
}

#[tokio::test]
async fn a_slot_that_nobody_would_look_at_or_looks_at_in_vain_breaks_i6() -> Result<()> {
    let unnoted = "ALTER TABLE slot DISABLE TRIGGER slot_uneven_update;
                   UPDATE slot SET capacity = capacity + 1, target = target + 1";
    assert_eq!(found_after(unnoted).await?, ["I6"]);
    let in_vain = "INSERT INTO slot_uneven (partition, slot_id) SELECT partition, id FROM slot";
    assert_eq!(found_after(in_vain).await?, ["I6"]);
    Ok(())
}

#[tokio::test]
async fn an_id_or_a_live_patient_or_a_key_twice_breaks_i5() -> Result<()> {
    let copy = "INSERT INTO booking (id, partition, e, session_id, slot_id, patient_id, account_id,
                    key_digest, request_digest, state, reason, number, accepted_at)
                SELECT";
    let rest = "accepted_at FROM booking WHERE patient_id = 2";
    let same_id = format!(
        "ALTER TABLE booking DROP CONSTRAINT booking_pkey;
         {copy} id, partition, e, session_id, slot_id, patient_id, account_id, key_digest,
             request_digest, 'rejected', 'late', NULL, {rest}"
    );
    assert_eq!(found_after(&same_id).await?, ["I5"]);
    let same_patient = format!(
        "DROP INDEX booking_session_patient_key;
         UPDATE slot SET booked = 3, escrowed = escrowed - 1, issued = 3;
         UPDATE epoch_slot SET consumed = consumed + 1 WHERE e = 1;
         {copy} 7, partition, e, session_id, slot_id, patient_id, account_id, '\\x07',
             request_digest, 'booked', NULL, 3, {rest}"
    );
    assert_eq!(found_after(&same_patient).await?, ["I5"]);
    let same_key = "DROP INDEX booking_patient_key_key;
                    UPDATE booking SET patient_id = 1, key_digest = '\\x01';
                    UPDATE booking SET patient_id = patient_id";
    let two_keys = same_key.replace("patient_id = 1,", "");
    assert_eq!(found_after(&two_keys).await?, [] as [&str; 0], "keys are the patients' own");
    let both = format!("DROP INDEX booking_session_patient_key; {same_key}");
    assert_eq!(found_after(&both).await?, ["I5"]);
    Ok(())
}

#[tokio::test]
async fn consumption_that_is_not_the_rows_breaks_i9() -> Result<()> {
    let more = "UPDATE epoch_slot SET consumed = consumed + 1 WHERE e = 1;
                UPDATE slot SET escrowed = escrowed - 1";
    assert_eq!(found_after(more).await?, ["I9"]);
    let above = "ALTER TABLE epoch_slot DROP CONSTRAINT epoch_slot_consumed_check;
                 UPDATE epoch_slot SET granted = 1; UPDATE slot SET escrowed = 0";
    assert_eq!(found_after(above).await?, ["I2", "I9"]);
    let relabelled = "UPDATE booking SET reason = 'late' WHERE state = 'rejected'";
    assert_eq!(found_after(relabelled).await?, ["I9"]);
    let elsewhere = "UPDATE booking SET e = 2 WHERE patient_id = 2";
    assert_eq!(found_after(elsewhere).await?, ["I9"]);
    Ok(())
}

#[tokio::test]
async fn two_open_epochs_of_one_partition_break_i9() -> Result<()> {
    let two = "DROP INDEX epoch_open_key; UPDATE epoch SET state = 'open'";
    assert_eq!(found_after(two).await?, ["I9"]);
    Ok(())
}

#[tokio::test]
async fn a_number_twice_or_never_issued_breaks_n1() -> Result<()> {
    let twice = "DROP INDEX booking_slot_number_key;
                 UPDATE booking SET number = 1 WHERE number IS NOT NULL";
    assert_eq!(found_after(twice).await?, ["N1"]);
    assert_eq!(found_after("UPDATE slot SET issued = 1").await?, ["N1"]);
    Ok(())
}
