//! Quota into Redis: steps R4 and R5.

use std::collections::BTreeMap;

use booking::{Booking, SessionId};
use inventory::Step;
use ledger::epoch::Grant;

use super::Error;
use super::partition::{Current, PartitionReconciler};

/// Sessions whose live bookings are read in one statement.
const SESSIONS_PER_READ: usize = 100;

impl PartitionReconciler {
    /// R4 and R5: grants what is free and tells Redis; all grants if this ledger is new here.
    pub async fn top_up(&mut self, current: &Current) -> Result<(), Error> {
        // Whatever stops this half-way makes the next round apply everything: what PostgreSQL has granted
        // by then, and Redis was not told, is not granted again.
        let is_known = self.applied.take().as_ref() == Some(&current.nonce);
        let ledger = &self.servers.ledger;
        let changed = ledger.top_up(self.partition, current.epoch).await?;
        failpoint::point!("reconcile.granted", if !changed.is_empty());
        let grants =
            if is_known { changed } else { ledger.grants(self.partition, current.epoch).await? };
        if grants.iter().any(|grant| !self.told.windows.contains_key(&grant.release)) {
            // Preheated since windows were read. Without its window no place of it would be sold.
            let windows = self.servers.ledger.windows().await?;
            self.tell_windows(current, &windows).await?;
        }
        if self.apply(current, &grants).await? {
            self.applied = Some(current.nonce.clone());
        }
        Ok(())
    }

    /// R5: applies grants session by session; false if Redis refused one.
    pub async fn apply(&self, current: &Current, grants: &[Grant]) -> Result<bool, Error> {
        let sessions: Vec<(SessionId, Vec<inventory::Grant>)> =
            by_session(grants).into_iter().collect();
        for some in sessions.chunks(SESSIONS_PER_READ) {
            let ids: Vec<SessionId> = some.iter().map(|(session, _)| *session).collect();
            let mut live = BTreeMap::<SessionId, Vec<Booking>>::new();
            for booking in self.servers.ledger.live_of_sessions(&ids).await? {
                live.entry(booking.slot.session()).or_default().push(booking);
            }
            for (session, grants) in some {
                let known = live.remove(session).unwrap_or_default();
                let applied = self
                    .servers
                    .inventory
                    .apply(self.partition, current.epoch, &current.nonce, *session, grants, &known)
                    .await?;
                if applied == Step::Refused {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

fn by_session(grants: &[Grant]) -> BTreeMap<SessionId, Vec<inventory::Grant>> {
    let mut sessions = BTreeMap::<SessionId, Vec<inventory::Grant>>::new();
    for Grant { slot, granted, release } in grants.iter().copied() {
        let grant = inventory::Grant { slot, granted, release };
        sessions.entry(slot.session()).or_default().push(grant);
    }
    sessions
}
