//! One partition's round: which steps are taken, and in which order.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use booking::{Epoch, Nonce, Partition, ReleaseId, Term, UnixMs};
use inventory::Inspection;
use ledger::epoch::{EpochRow, EpochState, ReleaseWindow};
use service::Interruption;

use super::looks::Looks;
use super::{Error, Move, Round, what_next};
use crate::Servers;

/// The epoch that sells, as the steps need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// Its number.
    pub epoch: Epoch,
    /// The life of Redis it was given to.
    pub term: Term,
    /// Ties it to its ledger.
    pub nonce: Nonce,
}

/// Reconciles one partition. What it remembers only saves work: a new one in its place does the
/// same.
#[derive(Debug)]
pub struct PartitionReconciler {
    pub(super) servers: Servers,
    pub(super) partition: Partition,
    /// The ledger to which every grant was applied; `None` makes the next round apply them all.
    pub(super) applied: Option<Nonce>,
    pub(super) told: Told,
    /// When each unclosed epoch's barrier was last sent, or the epoch first seen.
    pub(super) barriers: BTreeMap<Epoch, Instant>,
    pub(super) repaired: Repaired,
    pub(super) looks: Looks,
    /// L2: for how long Redis has answered and not sold.
    admission: Interruption,
    /// Whether Redis was ahead of PostgreSQL in the last round.
    is_ahead: bool,
}

/// The windows Redis was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) windows: HashMap<ReleaseId, ReleaseWindow>,
    pub(super) ledger: Option<Nonce>,
    pub(super) all_at: Option<Instant>,
}

/// How far Redis was told what was given back.
#[derive(Debug, Default)]
pub(super) struct Repaired {
    /// Changes up to here were told; `None` before the first.
    pub(super) watermark: Option<UnixMs>,
    /// Where a walk goes on that was too long for one round.
    pub(super) cursor: Option<UnixMs>,
    pub(super) due_at: Option<Instant>,
}

impl PartitionReconciler {
    /// Reconciles `partition`.
    pub fn new(servers: &Servers, partition: Partition) -> Self {
        Self {
            servers: servers.clone(),
            partition,
            applied: None,
            told: Told::default(),
            barriers: BTreeMap::new(),
            repaired: Repaired::default(),
            looks: Looks::default(),
            admission: Interruption::of(format!("admission.{partition}")),
            is_ahead: false,
        }
    }

    /// The same, and what finds nothing is looked for less often, the longer it takes.
    #[must_use]
    pub fn paced(mut self) -> Self {
        self.looks.are_paced = true;
        self
    }

    /// Returns the partition.
    pub const fn partition(&self) -> Partition {
        self.partition
    }

    /// Forgets what was done: another process may have led meanwhile.
    pub fn forget(&mut self) {
        self.admission.note(true);
        let are_paced = self.looks.are_paced;
        *self = Self::new(&self.servers, self.partition);
        self.looks.are_paced = are_paced;
    }

    /// Takes every step that is due. An error ends the round; the next takes up where it ended.
    pub async fn tick(&mut self, round: &Round) -> Result<(), Error> {
        let rows: Vec<&EpochRow> =
            round.epochs.iter().filter(|row| row.partition == self.partition).collect();
        let inspected = self.servers.inventory.inspect(self.partition).await;
        // Redis that does not answer is another interruption, and shown as that.
        self.admission.note(inspected.as_ref().map_or(true, sells));
        let seen = inspected?;
        self.measure(&rows, &seen);
        let latest = rows.iter().copied().max_by_key(|row| row.epoch);
        if let Some(mut current) = self.current(latest, &seen).await? {
            self.tell_windows(&current, &round.windows).await?;
            let uneven = self.look(&current).await?;
            if uneven.has_excess {
                match self.end(&current).await? {
                    Some(next) => current = next,
                    None => return Ok(()),
                }
                self.tell_windows(&current, &round.windows).await?;
            }
            // A ledger that is new here is told all its grants.
            if uneven.has_free || self.applied.as_ref() != Some(&current.nonce) {
                self.top_up(&current).await?;
            }
            // Epochs sealed in this very round are seen in the next.
            self.close_sealed(&rows, &current).await?;
        }
        self.repair().await
    }

    /// Makes sure that the current epoch sells; `None` if it can't just now.
    pub async fn current(
        &mut self,
        latest: Option<&EpochRow>,
        seen: &Inspection,
    ) -> Result<Option<Current>, Error> {
        let current = latest.map(|row| Current {
            epoch: row.epoch,
            term: row.term.clone(),
            nonce: row.nonce.clone(),
        });
        let is_sealed = latest.is_some_and(|row| row.state != EpochState::Open);
        let epoch = latest.map_or(Epoch::NONE, |row| row.epoch);
        let was_ahead = std::mem::take(&mut self.is_ahead);
        match (what_next(latest, seen), current) {
            (Move::Sell, current) => Ok(current),
            (Move::Open, Some(current)) => self.open(current).await,
            (Move::Freeze, Some(current)) => {
                tracing::info!(partition = %self.partition, %epoch, "a shut ledger is frozen to the end");
                self.end(&current).await
            }
            (Move::Renew | Move::Open | Move::Freeze, _) => self.renew(epoch, is_sealed).await,
            // The first time it may be the row that is an old one.
            (Move::Wait, _) if !was_ahead => {
                self.is_ahead = true;
                Ok(None)
            }
            (Move::Wait, _) => {
                self.is_ahead = true;
                Err(Error::Ahead)
            }
        }
    }

    fn measure(&self, rows: &[&EpochRow], seen: &Inspection) {
        let partition = self.partition.to_string();
        let unclosed = rows.iter().filter(|row| row.state != EpochState::Closed).count();
        let gauge = |name: &'static str, value: u32| {
            metrics::gauge!(name, "partition" => partition.clone()).set(value);
        };
        let bounded = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        gauge("slotrush_epochs_unclosed", u32::try_from(unclosed).unwrap_or(u32::MAX));
        gauge("slotrush_outbox_entries", bounded(seen.outbox_len));
        gauge("slotrush_ledger_open", seen.ledger.as_ref().is_some_and(|head| head.open).into());
    }
}

/// Tells whether the ledger is open, and of this life of Redis.
fn sells(seen: &Inspection) -> bool {
    seen.ledger.as_ref().is_some_and(|head| head.open && head.term == seen.term)
}
