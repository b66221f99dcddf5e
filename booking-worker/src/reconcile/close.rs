//! Ending sealed epochs: steps R8 and R9.

use std::time::{Duration, Instant};

use booking::message::{Barrier, Message, VERSION};
use booking::{Epoch, Partition};
use broker::Link;
use ledger::epoch::{Closed, EpochRow, EpochState};

use super::Error;
use super::partition::{Current, PartitionReconciler};

/// How often a barrier that was sent is sent again until it came through.
const BARRIER_EVERY: Duration = Duration::from_secs(2);

impl PartitionReconciler {
    /// R8 and R9: sends the barrier of each sealed epoch, and closes those that are drained.
    pub async fn close_sealed(
        &mut self,
        rows: &[&EpochRow],
        current: &Current,
    ) -> Result<(), Error> {
        let sealed: Vec<&EpochRow> =
            rows.iter().copied().filter(|row| row.state == EpochState::Sealed).collect();
        self.barriers.retain(|epoch, _| sealed.iter().any(|row| row.epoch == *epoch));
        let mut closable = Vec::new();
        for row in sealed {
            if row.drained || row.frozen {
                closable.push(row.epoch);
            }
            if !row.drained && self.is_barrier_due(row) {
                failpoint::point!("reconcile.sealed");
                let is_sent = self.send_barrier(row.epoch).await;
                if !is_sent && !row.frozen {
                    // Nothing is on its way that could be waited for.
                    self.barriers.remove(&row.epoch);
                }
                failpoint::point!("reconcile.barrier_sent");
            }
        }
        if !closable.is_empty() {
            self.close(&closable, current).await?;
        }
        Ok(())
    }

    /// R9: closes those of the epochs of which the true ledger's outbox holds nothing.
    pub async fn close(&self, epochs: &[Epoch], current: &Current) -> Result<usize, Error> {
        let inventory = &self.servers.inventory;
        // The outbox proves something only if it is the true ledger's the whole time.
        if !self.is_true(current).await? {
            return Ok(0);
        }
        let held = inventory.outbox_epochs(self.partition).await?;
        if !self.is_true(current).await? {
            return Ok(0);
        }
        let mut closed = 0;
        // An entry that tells no epoch may be of any.
        let is_free =
            |epoch: &&Epoch| !held.contains_key(*epoch) && !held.contains_key(&Epoch::NONE);
        for epoch in epochs.iter().filter(is_free) {
            failpoint::point!("reconcile.closing");
            match self.servers.ledger.close_epoch(self.partition, *epoch).await? {
                Closed::Done => {
                    failpoint::point!("reconcile.closed");
                    closed += 1;
                    tracing::info!(partition = %self.partition, %epoch, "the epoch is closed");
                    metrics::counter!("slotrush_epochs_closed_total").increment(1);
                }
                Closed::NotYet => {}
            }
        }
        Ok(closed)
    }

    /// R8: sends an epoch's barrier; false if it may not have been sent. What comes of it is seen when
    /// it comes through.
    pub async fn send_barrier(&self, epoch: Epoch) -> bool {
        if self.servers.publisher.link() != Link::Up {
            return false;
        }
        let message = barrier(self.partition, epoch);
        let sent = self.servers.publisher.send(self.partition, &message).await;
        if sent.is_err() {
            tracing::debug!(partition = %self.partition, %epoch, "the barrier may not have been sent");
        }
        sent.is_ok()
    }

    /// A frozen epoch mostly ends by itself when what it sold has its rows: its barrier can wait.
    fn is_barrier_due(&mut self, row: &EpochRow) -> bool {
        let now = Instant::now();
        match self.barriers.entry(row.epoch) {
            std::collections::btree_map::Entry::Vacant(first) => {
                first.insert(now);
                !row.frozen
            }
            std::collections::btree_map::Entry::Occupied(mut last) => {
                let is_due = now >= *last.get() + BARRIER_EVERY;
                if is_due {
                    last.insert(now);
                }
                is_due
            }
        }
    }

    async fn is_true(&self, current: &Current) -> Result<bool, Error> {
        let seen = self.servers.inventory.inspect(self.partition).await?;
        Ok(seen.ledger.is_some_and(|head| {
            head.epoch == current.epoch
                && head.nonce == current.nonce
                && head.term == current.term
                && seen.term == current.term
        }))
    }
}

fn barrier(partition: Partition, epoch: Epoch) -> Message {
    Message::Barrier(Barrier { v: VERSION, partition, epoch, echo_of: None })
}
