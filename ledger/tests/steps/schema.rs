//! The migrations, the pool, and what the tables say of themselves.

use anyhow::Result;
use booking::PartitionCount;
use sqlx::{Connection as _, PgConnection};

use crate::world::{World, refusal};

#[tokio::test]
async fn migrating_twice_changes_nothing() -> Result<()> {
    let world = World::new().await?;
    let steps = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace";
    let before = world.number(steps).await?;
    world.ledger.migrate().await?;
    assert_eq!(world.number(steps).await?, before);
    world.ledger.ping().await?;
    Ok(())
}

#[tokio::test]
async fn the_number_of_partitions_is_fixed_by_the_first_who_asks() -> Result<()> {
    let world = World::new().await?;
    let count = |n| PartitionCount::new(n).expect("in range");
    world.ledger.check_partitions(count(4)).await?;
    world.ledger.check_partitions(count(4)).await?;
    assert_eq!(refusal(world.ledger.check_partitions(count(8)).await), "deployment_partitions");
    Ok(())
}

#[tokio::test]
async fn every_step_says_what_it_is_for() -> Result<()> {
    let world = World::new().await?;
    let silent = "SELECT count(*) FROM pg_proc
                  WHERE pronamespace = 'public'::regnamespace
                    AND obj_description(oid, 'pg_proc') IS NULL";
    assert_eq!(world.number(silent).await?, 0);
    Ok(())
}

#[tokio::test]
async fn work_goes_on_when_its_caller_vanishes() -> Result<()> {
    let (world, slot) = World::on_offer(1).await?;
    let mut holder = world.sql.begin().await?;
    sqlx::query("SELECT FROM epoch FOR UPDATE").execute(&mut *holder).await?;
    let (ledger, booking) = (world.ledger.clone(), crate::world::booking(1, slot, 1));
    let caller = tokio::spawn(async move {
        ledger.persist(crate::world::P0, std::slice::from_ref(&booking)).await
    });
    world.until_blocked(1).await?;
    caller.abort();
    assert!(caller.await.is_err(), "the caller is gone");
    holder.commit().await?;
    testkit::eventually("the booking's row", crate::world::SOON, || async {
        (world.number("SELECT count(*) FROM booking").await.ok()? == 1).then_some(())
    })
    .await?;
    world.assert_sound().await
}

#[tokio::test]
async fn bookings_made_before_the_limits_had_an_index_are_found_by_it() -> Result<()> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            files.push(path);
        }
    }
    files.sort();
    let database = testkit::Database::create().await?;
    let number = |path: &std::path::Path| {
        let name = path.file_name()?.to_str()?;
        name.split('_').next()?.parse::<u32>().ok()
    };
    let (before, since): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|path| number(path).is_some_and(|number| number < 16));
    for path in &before {
        database.run(&std::fs::read_to_string(path)?).await?;
    }
    let rows = "
        SET session_replication_role = replica;
        INSERT INTO session (id, partition, hospital_id, department_id, doctor_id, on_date, period)
        OVERRIDING SYSTEM VALUE VALUES (1, 0, 7, 1, 1, '2026-03-02', 'morning');
        INSERT INTO booking (id, partition, e, session_id, slot_id, patient_id, account_id,
            key_digest, request_digest, state, number, accepted_at)
        VALUES (1, 0, 1, 1, 256, 1, 1, '\\x01', '\\x01', 'booked', 1, now()),
            (2, 0, 1, 1, 256, 2, 1, '\\x02', '\\x01', 'cancelled', 2, now())";
    database.run(rows).await?;
    for path in &since {
        database.run(&std::fs::read_to_string(path)?).await?;
    }
    let mut connection = PgConnection::connect(&database.url()).await?;
    let held: Vec<i64> = sqlx::query_scalar(
        "SELECT id FROM booking WHERE held_hospital_id = 7 AND held_on = '2026-03-02'",
    )
    .fetch_all(&mut connection)
    .await?;
    assert_eq!(held, [1]);
    let changes: Option<i64> =
        sqlx::query_scalar("SELECT sum(changes)::bigint FROM changed_bookings")
            .fetch_one(&mut connection)
            .await?;
    assert_eq!(changes, Some(0), "no poll looks again");
    database.run("UPDATE booking SET version = 2").await?;
    let changes: Option<i64> =
        sqlx::query_scalar("SELECT sum(changes)::bigint FROM changed_bookings")
            .fetch_one(&mut connection)
            .await?;
    assert_eq!(changes, Some(1), "changes count as before");
    Ok(())
}

#[tokio::test]
async fn a_session_keeps_its_hospital_and_its_date() -> Result<()> {
    let (world, _) = World::on_offer(1).await?;
    for moved in ["on_date = on_date + 1", "hospital_id = hospital_id + 1"] {
        let refused = world.run(&format!("UPDATE session SET {moved}")).await;
        let error = refused.expect_err("refused").to_string();
        assert!(error.contains("a session keeps its hospital and its date"), "{error}");
    }
    world.run("UPDATE session SET withdrawn_at = now(), on_date = on_date").await
}
