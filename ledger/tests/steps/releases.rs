//! Releases move on with time.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use booking::{AccountId, Epoch, SlotId, UnixMs};

use crate::races::holding;
use crate::world::{P0, World, booking, places};

const TARGET: &str = "SELECT target::bigint FROM slot";
const VERSION: &str = "SELECT version FROM release";

async fn planned(window: &str) -> Result<(World, SlotId)> {
    let world = World::new().await?;
    let session = world.session(P0, 7, &[5]).await?;
    world.run("UPDATE slot SET target = 0").await?;
    world.run(&format!("UPDATE release SET {window}")).await?;
    Ok((world, SlotId::of(session, 0)))
}

/// Preheats what is due; returns how many there were, none of them stuck.
async fn preheated(world: &World, lead_ms: i64) -> Result<u64> {
    let preheated = world.ledger.preheat_due(lead_ms).await?;
    ensure!(preheated.stuck.is_none(), "{preheated:?}");
    Ok(preheated.count)
}

#[tokio::test]
async fn a_release_is_preheated_its_lead_before_it_opens_once() -> Result<()> {
    let (world, slot) = planned("opens_at = now() + interval '10 min'").await?;
    assert_eq!(preheated(&world, 60_000).await?, 0);
    assert_eq!(world.number(TARGET).await?, 0);
    assert_eq!(world.ledger.windows().await?, []);
    assert_eq!(preheated(&world, 3_600_000).await?, 1);
    assert_eq!(world.number(TARGET).await?, 5);
    assert_eq!(world.number(VERSION).await?, 2);
    assert_eq!(preheated(&world, 3_600_000).await?, 0);
    assert_eq!(world.number(VERSION).await?, 2);
    world.open_first(P0).await?;
    assert_eq!(world.places(slot).await?, places(0, 5, 0));
    let windows = world.ledger.windows().await?;
    let opens = world.number("SELECT unix_ms(opens_at) FROM release").await?;
    assert_eq!((windows[0].opens_at, windows[0].version), (UnixMs(opens), 2));
    Ok(())
}

#[tokio::test]
async fn a_release_past_its_time_is_closed_and_nothing_of_it_is_free_again() -> Result<()> {
    let (world, slot) = planned("opens_at = now()").await?;
    assert_eq!(preheated(&world, 0).await?, 1);
    world.open_first(P0).await?;
    world.persist_one(&booking(1, slot, 1)).await?;
    assert_eq!(world.ledger.end_releases().await?, 0, "its time is not over");
    assert_eq!(world.number(TARGET).await?, 5);
    let over = "opens_at = now() - interval '2 s', closes_at = now() - interval '1 s'";
    world.run(&format!("UPDATE release SET {over}")).await?;
    assert_eq!(world.ledger.end_releases().await?, 1);
    assert_eq!(world.ledger.end_releases().await?, 0);
    assert_eq!(world.number(TARGET).await?, 0);
    assert!(world.ledger.uneven(P0).await?.has_excess);
    world.ledger.cancel(booking(1, slot, 1).id, AccountId::from(1)).await?;
    assert_eq!(world.ledger.top_up(P0, Epoch(1)).await?, []);
    assert_eq!(world.ledger.windows().await?[0].version, 3);
    world.assert_sound().await
}

#[tokio::test]
async fn a_planned_release_past_its_time_is_closed_without_going_on_offer() -> Result<()> {
    let over = "opens_at = now() - interval '2 h', closes_at = now() - interval '61 min'";
    let (world, _) = planned(over).await?;
    assert_eq!(preheated(&world, 0).await?, 0);
    assert_eq!(world.ledger.end_releases().await?, 1);
    assert_eq!(world.number(TARGET).await?, 0);
    assert_eq!(world.ledger.windows().await?, [], "closed for more than an hour");
    Ok(())
}

#[tokio::test]
async fn a_release_closed_before_its_time_has_a_window_that_ended() -> Result<()> {
    let (world, _) = planned("opens_at = now(), state = 'closed'").await?;
    let now = world.number("SELECT unix_ms(clock_timestamp())").await?;
    let windows = world.ledger.windows().await?;
    assert!(windows[0].closes_at.0 <= now + 10_000, "{windows:?}");
    Ok(())
}

#[tokio::test]
async fn a_release_is_preheated_while_an_epoch_of_its_partition_is_held() -> Result<()> {
    let (world, _) = planned("opens_at = now()").await?;
    world.open_first(P0).await?;
    // As long as a partition with very many slots is being frozen.
    let freezing = holding(&world, "SELECT FROM epoch FOR UPDATE").await?;
    assert_eq!(preheated(&world, 0).await?, 1);
    assert_eq!(world.number(TARGET).await?, 5);
    Ok(freezing.rollback().await?)
}

#[tokio::test]
async fn a_release_ends_while_an_epoch_of_its_partition_is_held() -> Result<()> {
    let (world, _) = planned("opens_at = now() - interval '1 h', closes_at = now()").await?;
    world.open_first(P0).await?;
    let freezing = holding(&world, "SELECT FROM epoch FOR UPDATE").await?;
    assert_eq!(world.ledger.end_releases().await?, 1);
    Ok(freezing.rollback().await?)
}

/// The race: an admin closes it after it was seen to be due.
#[tokio::test]
async fn a_release_that_is_closed_just_before_it_would_be_preheated_stays_closed() -> Result<()> {
    let (world, _) = planned("opens_at = now()").await?;
    let closing = holding(&world, "SELECT release_change(1, 1, 'close')").await?;
    let ledger = world.ledger.clone();
    let preheating = tokio::spawn(async move { ledger.preheat_due(0).await });
    world.until_blocked(1).await?;
    closing.commit().await?;
    assert_eq!(preheating.await??.count, 0);
    assert_eq!(world.number(TARGET).await?, 0);
    let closed = "SELECT count(*) FROM release WHERE state = 'closed'";
    assert_eq!(world.number(closed).await?, 1);
    Ok(())
}

/// Two releases of one slot each, of 5 and 9 places; the first opens first.
async fn two(windows: &str) -> Result<World> {
    let (world, _) = planned("opens_at = now() - interval '1 h'").await?;
    world
        .run(
            "INSERT INTO release (hospital_id, name, opens_at, closes_at, created_by)
             VALUES (1, 'after it', now() - interval '1 min', now() + interval '1 day', 1)",
        )
        .await?;
    let other = world.session(P0, 7, &[9]).await?;
    let of_other = format!("UPDATE slot SET release_id = 2 WHERE session_id = {other}");
    let none = "UPDATE slot SET target = 0";
    world.run(&format!("{of_other}; {none}; UPDATE release SET {windows}")).await?;
    Ok(world)
}

#[tokio::test]
async fn a_release_whose_slots_are_held_keeps_no_other_from_being_preheated() -> Result<()> {
    let world = two("paused = false").await?;
    let holder = holding(&world, "SELECT FROM slot WHERE release_id = 1 FOR UPDATE").await?;
    // Longer than its own patience lasts, eight times, and shorter than that of other statements.
    let preheating = tokio::time::timeout(Duration::from_secs(40), world.ledger.preheat_due(0));
    let preheated = preheating.await??;
    assert_eq!(preheated.count, 1);
    let stuck = preheated.stuck.context("one is stuck")?;
    assert!(
        matches!(stuck, (release, ledger::Error::Contended) if release.get() == 1),
        "{stuck:?}"
    );
    assert_eq!(world.number("SELECT sum(target) FROM slot").await?, 9, "of the other one");
    holder.rollback().await?;
    assert_eq!(world.ledger.preheat_due(0).await?.count, 1);
    assert_eq!(world.number("SELECT sum(target) FROM slot").await?, 14);
    Ok(())
}

#[tokio::test]
async fn what_opens_first_is_preheated_first() -> Result<()> {
    let world =
        two("opens_at = opens_at - CASE id WHEN 2 THEN interval '2 h' ELSE '0' END").await?;
    // Each has a change of the release, and then one of its slots.
    assert_eq!(world.ledger.preheat_due(0).await?.count, 2);
    let first = "SELECT id FROM release ORDER BY xmin::text::bigint LIMIT 1";
    assert_eq!(world.number(first).await?, 2);
    Ok(())
}

#[tokio::test]
async fn releases_that_are_over_end_together_or_not_at_all() -> Result<()> {
    let world = two("closes_at = now()").await?;
    let holder = holding(&world, "SELECT FROM slot WHERE release_id = 2 FOR UPDATE").await?;
    let ended = tokio::time::timeout(Duration::from_secs(40), world.ledger.end_releases()).await?;
    assert!(matches!(ended, Err(ledger::Error::Contended)), "{ended:?}");
    let closed = "SELECT count(*) FROM release WHERE state = 'closed'";
    assert_eq!(world.number(closed).await?, 0);
    holder.rollback().await?;
    assert_eq!(world.ledger.end_releases().await?, 2);
    Ok(())
}
