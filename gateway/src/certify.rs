//! Step G3: after a confirm, and only then, each epoch of the envelope must still not be sealed.

use std::sync::Arc;
use std::time::Duration;

use booking::{Epoch, Partition};
use broker::Certify;
use ledger::Ledger;
use tokio::sync::Semaphore;

use crate::epochs::Epochs;

/// Checks that may be on their way at once, or one for each lane if those are more: their messages may all be
/// confirmed at one instant. More than that means PostgreSQL is not keeping up, and nobody is told
/// "queued" then.
const CHECKS_MIN: usize = 64;

/// Makes the check the publisher asks after each confirm: false for all if PostgreSQL is not
/// there in time.
///
/// The statement itself runs in a task of its own and is not cancelled with the wait.
pub fn certify(ledger: Ledger, epochs: Arc<Epochs>, timeout_ms: u64, lanes: usize) -> Certify {
    let turns = Arc::new(Semaphore::new(lanes.clamp(CHECKS_MIN, Semaphore::MAX_PERMITS)));
    let timeout = Duration::from_millis(timeout_ms);
    Arc::new(move |asked: Vec<(Partition, Epoch)>| {
        let (ledger, epochs, turns) = (ledger.clone(), Arc::clone(&epochs), Arc::clone(&turns));
        Box::pin(async move {
            failpoint::point!("gateway.confirmed");
            let size = u32::try_from(asked.len()).unwrap_or(u32::MAX);
            metrics::histogram!("slotrush_envelope_size").record(size);
            let none = vec![false; asked.len()];
            let Ok(turn) = turns.try_acquire_owned() else { return none };
            let check = tokio::spawn(async move {
                let answer = ledger.are_open(&asked).await;
                drop(turn);
                answer
            });
            let answer = match tokio::time::timeout(timeout, check).await {
                Ok(Ok(Ok(answer))) if answer.len() == none.len() => {
                    epochs.note_check(true);
                    Some(answer)
                }
                Ok(Ok(Err(error))) => {
                    epochs.note_check(false);
                    tracing::debug!(%error, "the check of an epoch failed");
                    None
                }
                // Late is not down: on a busy machine a check may take longer than a patient
                // should wait, and "pending" says just that.
                Ok(Ok(Ok(_)) | Err(_)) | Err(_) => None,
            };
            failpoint::point!("gateway.checked");
            if answer.is_none() {
                metrics::counter!("slotrush_epoch_checks_failed_total").increment(1);
            }
            answer.unwrap_or(none)
        })
    })
}
