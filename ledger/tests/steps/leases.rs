//! Worker ids and the reconciler's lead, by the database's clock.

use std::collections::HashSet;

use anyhow::{Context as _, Result};
use booking::UnixMs;
use ledger::lease::WorkerLease;

use crate::world::World;

const TTL_MS: u32 = 60_000;

async fn lease(world: &World, holder: &str) -> Result<WorkerLease> {
    world.ledger.lease_worker_id(holder, TTL_MS).await?.context("no worker id is free")
}

#[tokio::test]
async fn every_holder_gets_a_number_of_its_own_until_there_are_none() -> Result<()> {
    let world = World::new().await?;
    world
        .run(
            "INSERT INTO lease (kind, number, holder, expires_at)
             SELECT 'worker_id', n, 'x', now() + interval '1 hour' FROM generate_series(0, 249) n",
        )
        .await?;
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..8 {
        let ledger = world.ledger.clone();
        asking.spawn(async move { ledger.lease_worker_id(&format!("h{n}"), TTL_MS).await });
    }
    let mut numbers = HashSet::new();
    let mut refused = 0;
    while let Some(answer) = asking.join_next().await {
        match answer?? {
            Some(lease) => assert!(numbers.insert(lease.worker.get()), "{lease:?} twice"),
            None => refused += 1,
        }
    }
    assert_eq!((numbers.len(), refused), (6, 2));
    Ok(())
}

#[tokio::test]
async fn a_number_is_leased_again_only_after_its_end_which_is_the_floor() -> Result<()> {
    let world = World::new().await?;
    let first = lease(&world, "a").await?;
    assert_eq!(first.floor, UnixMs(0));
    let second = lease(&world, "b").await?;
    assert_ne!(first.worker, second.worker);
    world.run("UPDATE lease SET expires_at = now() - interval '1 s' WHERE holder = 'a'").await?;
    let end = world.number("SELECT unix_ms(expires_at) FROM lease WHERE holder = 'a'").await?;
    let third = lease(&world, "c").await?;
    assert_eq!(third.worker, first.worker);
    assert!(third.floor.0 >= end && third.floor.0 <= end + 1, "{third:?}, {end}");
    Ok(())
}

#[tokio::test]
async fn only_the_holder_of_a_lease_that_has_not_ended_renews_it() -> Result<()> {
    let world = World::new().await?;
    let lease = lease(&world, "a").await?;
    assert!(world.ledger.renew_worker_id(lease.worker, "a", TTL_MS).await?);
    assert!(!world.ledger.renew_worker_id(lease.worker, "b", TTL_MS).await?);
    world.run("UPDATE lease SET expires_at = now()").await?;
    assert!(!world.ledger.renew_worker_id(lease.worker, "a", TTL_MS).await?);
    Ok(())
}

#[tokio::test]
async fn renewing_never_shortens() -> Result<()> {
    let world = World::new().await?;
    let lease = lease(&world, "a").await?;
    let end = world.number("SELECT unix_ms(expires_at) FROM lease").await?;
    assert!(world.ledger.renew_worker_id(lease.worker, "a", 1).await?);
    assert_eq!(world.number("SELECT unix_ms(expires_at) FROM lease").await?, end);
    Ok(())
}

#[tokio::test]
async fn a_number_given_back_keeps_its_floor_and_rests_a_little() -> Result<()> {
    let world = World::new().await?;
    let given = lease(&world, "a").await?;
    world.ledger.release_worker_id(given.worker, "b").await?;
    let left = "SELECT count(*) FROM lease WHERE expires_at > now() + interval '30 s'";
    assert_eq!(world.number(left).await?, 1, "b is not its holder");
    world.ledger.release_worker_id(given.worker, "a").await?;
    assert_eq!(world.number(left).await?, 0);
    let rests = "SELECT count(*) FROM lease WHERE expires_at > clock_timestamp()";
    assert_eq!(world.number(rests).await?, 1);
    assert_ne!(lease(&world, "c").await?.worker, given.worker);
    Ok(())
}

#[tokio::test]
async fn one_reconciler_leads_at_a_time() -> Result<()> {
    let world = World::new().await?;
    assert!(world.ledger.lead_reconciler("a", TTL_MS).await?);
    assert!(world.ledger.lead_reconciler("a", TTL_MS).await?);
    assert!(!world.ledger.lead_reconciler("b", TTL_MS).await?);
    world.run("UPDATE lease SET expires_at = now()").await?;
    assert!(world.ledger.lead_reconciler("b", TTL_MS).await?);
    assert!(!world.ledger.lead_reconciler("a", TTL_MS).await?);
    Ok(())
}
