//! A new epoch: steps R1, R2 and R3.

use booking::{Epoch, Nonce, Term};
use inventory::{Prepared, Step};
use ledger::epoch::Opened;

use super::Error;
use super::partition::{Current, PartitionReconciler};

impl PartitionReconciler {
    /// R1 to R3: seals the current epoch and opens the next; `None` if the next round must see.
    pub async fn renew(&self, current: Epoch, is_sealed: bool) -> Result<Option<Current>, Error> {
        let nonce = Nonce::from_random(rand::random());
        let Some(term) = self.prepare(&nonce, current, is_sealed).await? else {
            return Ok(None);
        };
        failpoint::point!("reconcile.prepared");
        let Some(next) = self.open_row(current, &term, nonce).await? else {
            return Ok(None);
        };
        failpoint::point!("reconcile.recorded");
        self.open(next).await
    }

    /// R1: an empty shell in Redis; `None` if none is needed.
    pub async fn prepare(
        &self,
        nonce: &Nonce,
        current: Epoch,
        is_sealed: bool,
    ) -> Result<Option<Term>, Error> {
        let inventory = &self.servers.inventory;
        match inventory.prepare(self.partition, nonce, current, is_sealed).await? {
            Prepared::Shell(term) => Ok(Some(term)),
            Prepared::NotNeeded => Ok(None),
        }
    }

    /// R2: the epoch in PostgreSQL; `None` if another reconciler was first.
    pub async fn open_row(
        &self,
        current: Epoch,
        term: &Term,
        nonce: Nonce,
    ) -> Result<Option<Current>, Error> {
        let partition = self.partition;
        match self.servers.ledger.open_epoch(partition, current, term, &nonce).await? {
            Opened::Epoch(epoch) => {
                tracing::info!(%partition, %epoch, "a new epoch");
                metrics::counter!("slotrush_epochs_opened_total").increment(1);
                Ok(Some(Current { epoch, term: term.clone(), nonce }))
            }
            Opened::Overtaken => Ok(None),
        }
    }

    /// R3: opens the shell; `None` if it is gone, and R1 comes again.
    pub async fn open(&self, next: Current) -> Result<Option<Current>, Error> {
        let inventory = &self.servers.inventory;
        match inventory.open(self.partition, next.epoch, &next.term, &next.nonce).await? {
            Step::Done(()) => {
                failpoint::point!("reconcile.opened");
                Ok(Some(next))
            }
            Step::Refused => Ok(None),
        }
    }
}
