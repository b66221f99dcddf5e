//! Redis lost in the middle of a rush.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use booking::Epoch;
use e2e::{Manner, Options, SOON, System, finish_all};
use rush::answer::Answer;
use testkit::eventually;

/// L2: how soon admission is back.
const BACK_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn redis_flushed_in_the_middle_oversells_nothing_and_sells_the_rest() -> Result<()> {
    let mut system = System::start(Options::default()).await?;
    let before = epoch(&system).await?;
    let rush = system.rush_halfway(120, Manner::default()).await?;
    system.flush_redis().await?;
    let endings = finish_all(rush).await?;
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
    let [first, others] = system.rush_halfway(60, Manner::default()).await?;
    system.replace_redis().await?;

    let slot = system.plan.offers[0].slot;
    // One after the other, so that nobody asks too often.
    let mut askers = (60..119).cycle();
    eventually("an answer that quota recovers", BACK_WITHIN, || {
        let asker = askers.next().map(|number| system.person(number, 0));
        async move {
            let answer = asker?.ok()?.book(slot, "asker").await;
            let is_recovering = matches!(&answer, Answer::Busy { code, retry_after_s: Some(_), .. }
                if code == "quota_recovering");
            is_recovering.then_some(())
        }
    })
    .await?;
    let recovering_at = Instant::now();
    let answer = system.person(119, 0)?.book_when_ready(slot, "mine").await;
    assert!(matches!(answer, Answer::Booking { .. } | Answer::Refused { .. }), "{answer:?}");
    assert!(recovering_at.elapsed() < BACK_WITHIN, "back after {:?}", recovering_at.elapsed());
    let rest = system.rush(60..119, Manner { within_ms: 500, ..Manner::default() })?;
    let endings = finish_all([first, others, rest]).await?;
    assert!(!endings.contains_key("unanswered"), "{endings:?}");
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
