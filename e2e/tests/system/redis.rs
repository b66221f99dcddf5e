//! Redis lost in the middle of a rush.

use std::time::Duration;

use anyhow::{Context as _, Result};
use booking::Epoch;
use e2e::{Manner, Options, SOON, System};
use rush::answer::Answer;
use testkit::eventually;

/// L2: how soon admission is back.
const BACK_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn redis_flushed_in_the_middle_oversells_nothing_and_sells_the_rest() -> Result<()> {
    let system = System::start(Options::default()).await?;
    let before = epoch(&system).await?;
    let rush = system.rush(0..120, Manner::default())?;
    rush.until_booked(8).await?;
    system.flush_redis().await?;
    let endings = rush.finish().await?;
    assert!(!endings.contains_key("unanswered"), "{endings:?}");
    system.sell_out().await?;
    assert!(epoch(&system).await? > before);
    assert_eq!(system.counts().await?.booked, 40);
    system.finish().await
}

#[tokio::test]
async fn redis_killed_and_started_empty_recovers_its_quota_and_sells_the_rest() -> Result<()> {
    let mut system = System::start(Options::default()).await?;
    let before = epoch(&system).await?;
    let rush = system.rush(0..60, Manner { within_ms: 1_000, ..Manner::default() })?;
    rush.until_booked(8).await?;
    system.replace_redis().await?;

    let slot = system.plan.offers[0].slot;
    let asker = system.person(119, 0)?;
    eventually("an answer that quota recovers", BACK_WITHIN, || async {
        let answer = asker.book(slot, "asker").await;
        let is_recovering = matches!(&answer, Answer::Busy { code, retry_after_s: Some(_), .. }
            if code == "quota_recovering");
        is_recovering.then_some(())
    })
    .await?;
    // Whatever the answer is now, it is not "later" any more.
    eventually("admission", BACK_WITHIN, || async {
        match asker.book(slot, "asker").await {
            Answer::Booking { .. } | Answer::Refused { .. } => Some(()),
            _ => None,
        }
    })
    .await?;
    let rest = system.rush(60..119, Manner { within_ms: 500, ..Manner::default() })?;
    for rush in [rush, rest] {
        let endings = rush.finish().await?;
        assert!(!endings.contains_key("unanswered"), "{endings:?}");
    }
    system.sell_out().await?;
    assert!(epoch(&system).await? > before);
    assert_eq!(system.counts().await?.booked, 40);
    system.finish().await
}

/// The current epoch of the partition where the places are.
async fn epoch(system: &System) -> Result<Epoch> {
    let partition = system.partition();
    eventually("an epoch", SOON, || async {
        let epochs = system.ledger().epochs().await.ok()?;
        epochs.iter().filter(|row| row.partition == partition).map(|row| row.epoch).max()
    })
    .await
    .context("asking for the epoch")
}
