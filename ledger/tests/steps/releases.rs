//! Releases move on with time.

use anyhow::Result;
use booking::{AccountId, Epoch, SlotId, UnixMs};

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

#[tokio::test]
async fn a_release_is_preheated_its_lead_before_it_opens_once() -> Result<()> {
    let (world, slot) = planned("opens_at = now() + interval '10 min'").await?;
    assert_eq!(world.ledger.advance_releases(60_000).await?, 0);
    assert_eq!(world.number(TARGET).await?, 0);
    assert_eq!(world.ledger.windows().await?, []);
    assert_eq!(world.ledger.advance_releases(3_600_000).await?, 1);
    assert_eq!(world.number(TARGET).await?, 5);
    assert_eq!(world.number(VERSION).await?, 2);
    assert_eq!(world.ledger.advance_releases(3_600_000).await?, 0);
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
    world.ledger.advance_releases(0).await?;
    world.open_first(P0).await?;
    world.persist_one(&booking(1, slot, 1)).await?;
    let over = "opens_at = now() - interval '2 s', closes_at = now() - interval '1 s'";
    world.run(&format!("UPDATE release SET {over}")).await?;
    assert_eq!(world.ledger.advance_releases(0).await?, 1);
    assert_eq!(world.ledger.advance_releases(0).await?, 0);
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
    assert_eq!(world.ledger.advance_releases(0).await?, 1);
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
