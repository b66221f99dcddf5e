//! Releases move on with time: preheated before they open, ended when they are over.
//!
//! Not within a round: that waits for whoever holds their slots, a minute where a partition with very many is being
//! frozen. Neither the lead nor a partition is to wait with it, nor what opens for what ends.

use anyhow::Context;
use ledger::Ledger;
use tokio_util::sync::CancellationToken;

use super::{RELEASES_EVERY, Rounds};
use crate::fault::Fault;

/// Preheats what opens within `lead_ms`, again and again while this process leads.
pub(super) async fn preheat(
    ledger: Ledger,
    lead_ms: i64,
    rounds: Rounds,
    shutdown: CancellationToken,
) {
    let step = || preheat_once(ledger.clone(), lead_ms);
    repeat("preheating releases", step, rounds, shutdown).await;
}

async fn preheat_once(ledger: Ledger, lead_ms: i64) -> anyhow::Result<()> {
    let preheated = ledger.preheat_due(lead_ms).await?;
    if preheated.count > 0 {
        tracing::info!(releases = preheated.count, "releases are preheated");
    }
    match preheated.stuck {
        Some((release, error)) => Err(error).with_context(|| format!("release {release}")),
        None => Ok(()),
    }
}

/// Ends what is past its time, again and again while this process leads.
pub(super) async fn end(ledger: Ledger, rounds: Rounds, shutdown: CancellationToken) {
    let step = || end_once(ledger.clone());
    repeat("ending releases", step, rounds, shutdown).await;
}

async fn end_once(ledger: Ledger) -> anyhow::Result<()> {
    let ended = ledger.end_releases().await?;
    if ended > 0 {
        tracing::info!(releases = ended, "releases are over");
    }
    Ok(())
}

async fn repeat<Step>(
    what: &str,
    step: impl Fn() -> Step,
    mut rounds: Rounds,
    shutdown: CancellationToken,
) where
    Step: Future<Output = anyhow::Result<()>>,
{
    let mut fault = Fault::of(what);
    let turns = async {
        while rounds.wait_for(Option::is_some).await.map(drop).is_ok() {
            fault.note(step().await);
            tokio::time::sleep(RELEASES_EVERY).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = turns => {}
    }
}
