//! A planned end of an epoch: step R6.

use std::collections::{BTreeMap, BTreeSet};

use booking::{SessionId, SlotId};
use inventory::{SlotCount, Step};
use ledger::epoch::Grant;

use super::Error;
use super::partition::{Current, PartitionReconciler};

impl PartitionReconciler {
    /// R6, and a new epoch in its place: what was unsold is free at once. May be taken up by
    /// anyone at any point; `None` if the next round must see.
    pub async fn end(&self, current: &Current) -> Result<Option<Current>, Error> {
        let Some(sold) = self.freeze_ledger(current).await? else {
            return Ok(None);
        };
        failpoint::point!("reconcile.frozen");
        self.freeze_row(current, &sold).await?;
        failpoint::point!("reconcile.freeze_recorded");
        self.renew(current.epoch, true).await
    }

    /// R6 in Redis: shuts the ledger and learns what it sold; `None` if it is not the true one.
    pub async fn freeze_ledger(
        &self,
        current: &Current,
    ) -> Result<Option<Vec<(SlotId, u32)>>, Error> {
        let grants = self.servers.ledger.grants(self.partition, current.epoch).await?;
        let sessions: BTreeSet<SessionId> =
            grants.iter().map(|grant| grant.slot.session()).collect();
        let sessions: Vec<SessionId> = sessions.into_iter().collect();
        let inventory = &self.servers.inventory;
        let frozen =
            inventory.freeze(self.partition, current.epoch, &current.nonce, &sessions).await?;
        Ok(match frozen {
            Step::Done(counts) => {
                // To tell PostgreSQL of all slots may take minutes.
                let partition = self.partition.to_string();
                metrics::gauge!("slotrush_ledger_open", "partition" => partition).set(0);
                Some(sold_of(&grants, &counts))
            }
            Step::Refused => None,
        })
    }

    /// R6 in PostgreSQL: seals the epoch with what was sold.
    pub async fn freeze_row(&self, current: &Current, sold: &[(SlotId, u32)]) -> Result<(), Error> {
        let (partition, epoch) = (self.partition, current.epoch);
        let outcome = self.servers.ledger.freeze(partition, epoch, sold).await?;
        tracing::info!(%partition, %epoch, ?outcome, "the epoch is frozen");
        Ok(())
    }
}

/// Names every granted slot. One the true ledger does not know was granted and never applied: a
/// ledger that is shut takes no more grants, so nothing of it was sold.
fn sold_of(grants: &[Grant], counts: &[SlotCount]) -> Vec<(SlotId, u32)> {
    let counted: BTreeMap<SlotId, u32> = counts.iter().map(|c| (c.slot, c.sold)).collect();
    let sold = |grant: &Grant| (grant.slot, counted.get(&grant.slot).copied().unwrap_or(0));
    grants.iter().map(sold).collect()
}

#[cfg(test)]
mod tests {
    use booking::ReleaseId;

    use super::*;

    #[test]
    fn a_grant_that_never_reached_redis_was_not_sold() {
        let grant =
            |slot| Grant { slot: SlotId::from(slot), granted: 5, release: ReleaseId::from(1) };
        let count = SlotCount { slot: SlotId::from(256), left: 2, granted: 5, sold: 3 };
        let sold = sold_of(&[grant(256), grant(512)], &[count]);
        assert_eq!(sold, [(SlotId::from(256), 3), (SlotId::from(512), 0)]);
    }
}
