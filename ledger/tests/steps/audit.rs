//! The audit finds what is broken, whatever broke it.

use anyhow::{Result, bail, ensure};
use booking::SlotId;
use ledger::audit::Part;

use crate::world::{P0, SOON, World, booking, bookings};

/// Breaks a sound ledger and returns the names of the invariants that are then found broken.
async fn found_after(corruption: &str) -> Result<Vec<&'static str>> {
    let (world, slot) = World::on_offer(5).await?;
    world.persist(&bookings(2, slot)).await?;
    world.persist_one(&booking(3, slot, 1)).await?;
    world.open(P0, 1, "second").await?;
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
    let killed = "UPDATE booking SET state = 'cancelled', held_hospital_id = NULL, held_on = NULL
                  WHERE patient_id = 2";
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
                    key_digest, request_digest, state, reason, number, accepted_at, held_hospital_id, held_on)
                SELECT";
    let rest = "FROM booking WHERE patient_id = 2";
    let same_id = format!(
        "ALTER TABLE booking DROP CONSTRAINT booking_pkey;
         {copy} id, partition, e, session_id, slot_id, patient_id, account_id, key_digest,
             request_digest, 'rejected', 'late', NULL, accepted_at, NULL, NULL {rest}"
    );
    assert_eq!(found_after(&same_id).await?, ["I5"]);
    let same_patient = format!(
        "DROP INDEX booking_session_patient_key;
         UPDATE slot SET booked = 3, escrowed = escrowed - 1, issued = 3;
         UPDATE epoch_slot SET consumed = consumed + 1 WHERE e = 1;
         {copy} 7, partition, e, session_id, slot_id, patient_id, account_id, '\\x07',
             request_digest, 'booked', NULL, 3, accepted_at, held_hospital_id, held_on {rest}"
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

/// Five sessions of two slots, one booking in each slot.
async fn five_sessions() -> Result<World> {
    let world = World::new().await?;
    let mut slots = Vec::new();
    for days in 1..=5 {
        let session = world.session(P0, 7 * days, &[5, 5]).await?;
        slots.extend([SlotId::of(session, 0), SlotId::of(session, 1)]);
    }
    world.open_first(P0).await?;
    let bookings: Vec<_> = (1..).zip(&slots).map(|(n, slot)| booking(n, *slot, n)).collect();
    world.persist(&bookings).await?;
    world.assert_sound().await?;
    Ok(world)
}

/// Walks through the parts of an audit, each as small as can be; returns where each began and what it
/// found.
async fn walk(world: &World) -> Result<Vec<(Part, Vec<&'static str>)>> {
    let (mut parts, mut next) = (Vec::new(), Some(Part::FIRST));
    while let Some(part) = next {
        let audited = world.ledger.audit_part(part, 1).await?;
        parts.push((part, audited.violations.iter().map(|found| found.invariant).collect()));
        next = audited.next;
        ensure!(parts.len() < 100, "it does not get on: {parts:?}");
    }
    Ok(parts)
}

#[tokio::test]
async fn a_walk_through_the_parts_finds_what_the_whole_audit_finds_and_once() -> Result<()> {
    let breaks = [
        ("UPDATE slot SET booked = booked - 1 WHERE session_id =", "I1"),
        ("UPDATE slot SET escrowed = escrowed - 1 WHERE session_id =", "I2"),
        ("INSERT INTO slot_uneven SELECT partition, id FROM slot WHERE session_id =", "I6"),
        ("UPDATE slot SET issued = 0 WHERE session_id =", "N1"),
        ("UPDATE booking SET e = 7 WHERE session_id =", "I9"),
    ];
    let world = five_sessions().await?;
    let parts = walk(&world).await?;
    let of_slots = parts.iter().filter(|(part, _)| matches!(part, Part::Counts(_))).count();
    ensure!((5..=7).contains(&of_slots), "one part for each session: {parts:?}");
    ensure!(parts.iter().all(|(_, found)| found.is_empty()), "sound: {parts:?}");
    for session in [1, 3, 5] {
        for (corruption, invariant) in breaks {
            let world = five_sessions().await?;
            world.run(&format!("{corruption} {session}")).await?;
            let whole = world.ledger.audit().await?.len();
            let found: Vec<_> =
                walk(&world).await?.into_iter().filter(|(_, f)| !f.is_empty()).collect();
            let [(Part::Counts(first), names)] = &found[..] else { bail!("{found:?}") };
            ensure!(first >> 8 == session || *first == i64::MIN, "session {session}: {found:?}");
            ensure!(names.len() == whole && names.iter().all(|n| *n == invariant), "{found:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_id_or_a_key_twice_in_two_sessions_is_found_by_parts() -> Result<()> {
    let world = five_sessions().await?;
    world
        .run(
            "ALTER TABLE booking DROP CONSTRAINT booking_pkey;
             DROP INDEX booking_patient_key_key;
             UPDATE booking SET id = (SELECT id FROM booking WHERE patient_id = 2) WHERE patient_id = 9;
             UPDATE booking SET patient_id = 3, key_digest = '\\x01' WHERE patient_id IN (3, 10)",
        )
        .await?;
    let found: Vec<_> = walk(&world).await?.into_iter().filter(|(_, f)| !f.is_empty()).collect();
    let [(Part::Ids(_), ids), (Part::Keys(_), keys)] = &found[..] else { bail!("{found:?}") };
    ensure!(ids == &["I5"] && keys == &["I5"], "{found:?}");
    Ok(())
}

const NUMBER_TWICE: &str = "DROP INDEX booking_slot_number_key;
    UPDATE booking SET number = 1 WHERE number IS NOT NULL";
const LIVE_TWICE: &str = "DROP INDEX booking_session_patient_key;
    UPDATE booking SET patient_id = 1";
const ELSEWHERE: &str = "ALTER TABLE booking DROP CONSTRAINT booking_session_check;
    UPDATE booking SET session_id = session_id + 1 WHERE patient_id = 2";

async fn broken_by(corruption: &str) -> Result<World> {
    let (world, slot) = World::on_offer(5).await?;
    world.persist(&bookings(2, slot)).await?;
    world.run(corruption).await?;
    Ok(world)
}

#[tokio::test]
async fn what_is_twice_in_a_session_is_found_by_parts_and_who_is_in_another() -> Result<()> {
    for (corruption, wanted, invariant) in [
        (NUMBER_TWICE, Part::Numbers(0), "N1"),
        (LIVE_TWICE, Part::Live(0), "I5"),
        (ELSEWHERE, Part::Counts(0), "I5"),
    ] {
        let mut found = walk(&broken_by(corruption).await?).await?;
        found.retain(|(_, names)| !names.is_empty());
        let [(part, names)] = &found[..] else { bail!("{corruption}: {found:?}") };
        ensure!(std::mem::discriminant(part) == std::mem::discriminant(&wanted), "{part:?}");
        ensure!(names == &[invariant], "{corruption}: {names:?}");
    }
    Ok(())
}

/// Workers of the version before ask for all that is about slots at once.
#[tokio::test]
async fn the_version_before_is_told_the_same() -> Result<()> {
    let asked = "SELECT count(found.*) FROM (VALUES (-9223372036854775808)) AS asked (first)
        CROSS JOIN LATERAL audit_part('slots', first, audit_last('slots', first, 5000)) found";
    for (corruption, count) in [
        (NUMBER_TWICE, 1),
        (LIVE_TWICE, 1),
        (ELSEWHERE, 1),
        ("UPDATE slot SET escrowed = 0", 1),
        ("", 0),
    ] {
        let world = broken_by(corruption).await?;
        ensure!(world.number(asked).await? == count, "{corruption}");
    }
    Ok(())
}

/// A part that is planned as if the tables were still empty holds each row against each.
#[tokio::test]
async fn a_part_reads_its_range_only_whatever_was_planned_before() -> Result<()> {
    let world = five_sessions().await?;
    walk(&world).await?;
    world
        .run(
            "INSERT INTO doctor (department_id, name) SELECT 1, 'n' FROM generate_series(1, 4000);
             INSERT INTO session (partition, hospital_id, department_id, doctor_id, on_date, period)
             SELECT 0, 1, 1, id, current_date, 'evening' FROM doctor WHERE name = 'n';
             INSERT INTO slot (id, session_id, partition, starts_at, ends_at, capacity)
             SELECT s.id << 8 | n, s.id, 0, now(), now() + interval '1 hour', 1
             FROM session s, generate_series(0, 9) n WHERE s.period = 'evening'",
        )
        .await?;
    let read =
        "SELECT coalesce(sum(idx_tup_fetch), 0)::bigint + coalesce(sum(seq_tup_read), 0)::bigint
                FROM pg_stat_user_tables WHERE relname = 'slot'";
    let before = world.number(read).await?;
    let audited = world.ledger.audit_part(Part::FIRST, 100).await?;
    ensure!(audited.next.is_some_and(|next| matches!(next, Part::Counts(_))), "{audited:?}");
    let count = async || Ok::<_, anyhow::Error>(world.number(read).await? - before);
    // Counters arrive a moment later.
    testkit::eventually("the counters", SOON, || async { count().await.ok().filter(|n| *n > 0) })
        .await?;
    let rows = count().await?;
    ensure!(rows < 5_000, "{rows} rows were read for a part of a hundred");
    Ok(())
}
