//! Telling Redis when a release may be booked.

use std::time::{Duration, Instant};

use inventory::Window;
use ledger::epoch::ReleaseWindow;

use super::Error;
use super::partition::{Current, PartitionReconciler, Told};

/// How often every window is told again, in case Redis lost it without losing its ledger.
const ALL_EVERY: Duration = Duration::from_secs(10);

impl PartitionReconciler {
    /// Tells the windows that changed; all of them to a new ledger, and every few seconds.
    pub async fn tell_windows(
        &mut self,
        current: &Current,
        windows: &[ReleaseWindow],
    ) -> Result<(), Error> {
        let is_stale = self.told.all_at.is_none_or(|at| at.elapsed() >= ALL_EVERY);
        if is_stale || self.told.ledger.as_ref() != Some(&current.nonce) {
            let ledger = Some(current.nonce.clone());
            self.told = Told { ledger, all_at: Some(Instant::now()), ..Told::default() };
        }
        for window in windows {
            if self.told.windows.get(&window.release) == Some(window) {
                continue;
            }
            let told = Window {
                opens_at: window.opens_at,
                closes_at: window.closes_at,
                paused: window.paused,
                version: window.version,
            };
            self.servers.inventory.set_window(self.partition, window.release, told).await?;
            self.told.windows.insert(window.release, *window);
        }
        Ok(())
    }
}
