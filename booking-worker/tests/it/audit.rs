//! The running audit: what it finds of what is broken, and when it calls something clean.

use std::time::Duration;

use anyhow::{Result, ensure};
use booking_worker::audit::Audit;

use crate::world::World;

const EVERY: Duration = Duration::from_secs(10);
const CHECKED: [&str; 7] = ["I1", "I2", "I5", "I6", "I9", "I11", "N1"];

/// Judges parts to the end of the pass; returns how many there were.
async fn pass(audit: &mut Audit, world: &World) -> Result<usize> {
    for parts in 1..1_000 {
        if audit.step(&world.servers).await? {
            return Ok(parts);
        }
    }
    anyhow::bail!("it does not end")
}

#[tokio::test]
async fn an_invariant_is_called_clean_after_a_whole_pass_and_broken_at_once() -> Result<()> {
    let world = World::start(&[3, 3]).await?;
    world.reconcile().await?;
    let mut audit = Audit::new(EVERY, 1);
    while !audit.step(&world.servers).await? {
        for invariant in CHECKED {
            ensure!(audit.shown().of(invariant).is_none(), "{invariant} is clean before the end");
        }
    }
    ensure!(CHECKED.iter().all(|name| audit.shown().of(name) == Some(0)), "{:?}", audit.shown());
    world.sql("UPDATE slot SET booked = booked + 1, escrowed = escrowed - 1").await?;
    // What lies before the first slot, then its session.
    for _ in 0..2 {
        ensure!(!audit.step(&world.servers).await?, "there is more than slots");
    }
    ensure!(audit.shown().of("I1") == Some(2), "{:?}", audit.shown());
    world.sql("UPDATE slot SET booked = booked - 1, escrowed = escrowed + 1").await?;
    pass(&mut audit, &world).await?;
    ensure!(audit.shown().of("I1") == Some(2), "that pass had found it: {:?}", audit.shown());
    let mut is_done = false;
    while !is_done {
        ensure!(audit.shown().of("I1") == Some(2), "not before a later pass has ended");
        is_done = audit.step(&world.servers).await?;
    }
    ensure!(audit.shown().of("I1") == Some(0), "{:?}", audit.shown());
    audit.forget();
    ensure!(audit.shown().of("I1").is_none(), "another process may have led");
    Ok(())
}

#[tokio::test]
async fn places_that_redis_lost_are_a_leak_once_they_are_gone_for_long() -> Result<()> {
    let world = World::start(&[3, 3]).await?;
    world.reconcile().await?;
    let mut audit = Audit::new(EVERY, 1_000);
    pass(&mut audit, &world).await?;
    let session = world.slots[0].session();
    world.redis_command(&format!("DEL {{p0}}:s:{session}")).await?;
    pass(&mut audit, &world).await?;
    for looks in 1..3 {
        ensure!(audit.shown().of("I6") == Some(0), "after {looks}: {:?}", audit.shown());
        audit.look_again(&world.servers).await?;
    }
    ensure!(audit.shown().of("I6") == Some(2), "in both slots: {:?}", audit.shown());
    // A reconciler that does not know what was applied tells it anew.
    world.reconcile().await?;
    audit.look_again(&world.servers).await?;
    ensure!(audit.shown().of("I6") == Some(0), "{:?}", audit.shown());
    Ok(())
}

#[tokio::test]
async fn after_a_fault_the_same_part_is_judged_again() -> Result<()> {
    let world = World::start(&[3]).await?;
    world.reconcile().await?;
    let mut audit = Audit::new(EVERY, 1_000);
    world.sql("ALTER FUNCTION audit_part RENAME TO audit_gone").await?;
    ensure!(audit.step(&world.servers).await.is_err(), "there is no such function");
    ensure!(audit.shown().of("I1").is_none(), "nothing is known: {:?}", audit.shown());
    world.sql("ALTER FUNCTION audit_gone RENAME TO audit_part").await?;
    world.sql("UPDATE slot SET booked = booked + 1, escrowed = escrowed - 1").await?;
    pass(&mut audit, &world).await?;
    ensure!(audit.shown().of("I1") == Some(1), "{:?}", audit.shown());
    Ok(())
}
