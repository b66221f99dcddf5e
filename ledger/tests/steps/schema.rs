//! The migrations, the pool, and what the tables say of themselves.

use anyhow::Result;
use booking::PartitionCount;

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
