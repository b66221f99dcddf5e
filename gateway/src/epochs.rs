//! What is known of the epochs, and of PostgreSQL's health: asked every quarter of a second.
//!
//! A hold names the epoch it means. A partition with an older epoch that is not closed is
//! *recovering*: what looks sold out there may come back, so nobody is told "sold out" for good.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use booking::{Epoch, Partition};
use ledger::Ledger;
use ledger::epoch::{EpochRow, EpochState};

const PARTITIONS: usize = booking::partition::PARTITIONS_MAX as usize;
const ASK_EVERY: Duration = Duration::from_millis(250);
/// A round that takes longer, while nothing else is answered, counts as PostgreSQL being down.
const ROUND_MAX: Duration = Duration::from_millis(1_500);
/// Failed checks of epochs (step G3) in a row until PostgreSQL counts as down.
const FAILURES_MAX: u32 = 3;

/// The epochs as last seen. Shared.
#[derive(Debug)]
pub struct Epochs {
    partitions: Vec<Watched>,
    /// Rounds begun so far.
    round: AtomicU64,
    /// A round was finished: what is known of every partition is what PostgreSQL said.
    is_read: AtomicBool,
    is_ledger_up: AtomicBool,
    /// Checks of epochs that PostgreSQL answered since it was last looked at.
    answers: AtomicU32,
    failures: AtomicU32,
}

#[derive(Debug, Default)]
struct Watched {
    current: AtomicI64,
    is_recovering: AtomicBool,
    /// The round in which a newer epoch was met in Redis: earlier rounds know less.
    adopted_in: AtomicU64,
}

impl Default for Epochs {
    fn default() -> Self {
        Self {
            partitions: (0..PARTITIONS).map(|_| Watched::default()).collect(),
            round: AtomicU64::new(0),
            is_read: AtomicBool::new(false),
            is_ledger_up: AtomicBool::new(false),
            answers: AtomicU32::new(0),
            failures: AtomicU32::new(0),
        }
    }
}

impl Epochs {
    /// Returns the latest epoch known of a partition.
    pub fn current(&self, partition: Partition) -> Epoch {
        Epoch(self.of(partition).current.load(Ordering::Acquire))
    }

    /// Tells whether an older epoch of the partition is not closed yet, or nothing is known of it.
    pub fn is_recovering(&self, partition: Partition) -> bool {
        let watched = self.of(partition);
        watched.is_recovering.load(Ordering::Acquire)
            || watched.current.load(Ordering::Acquire) == Epoch::NONE.0
    }

    /// Takes over a newer epoch met in Redis. Until PostgreSQL tells more, the one before counts
    /// as not closed.
    pub fn adopt(&self, partition: Partition, epoch: Epoch) {
        let watched = self.of(partition);
        if watched.current.fetch_max(epoch.0, Ordering::AcqRel) < epoch.0 {
            watched.adopted_in.store(self.round.load(Ordering::Acquire), Ordering::Release);
            watched.is_recovering.store(true, Ordering::Release);
        }
    }

    /// Tells whether a round over all partitions was ever finished.
    pub fn is_read(&self) -> bool {
        self.is_read.load(Ordering::Acquire)
    }

    /// Tells whether PostgreSQL answered lately.
    pub fn is_ledger_up(&self) -> bool {
        self.is_ledger_up.load(Ordering::Acquire)
    }

    /// Notes whether PostgreSQL answered a check of epochs or could not.
    pub fn note_check(&self, answered: bool) {
        if answered {
            self.failures.store(0, Ordering::Relaxed);
            self.answers.fetch_add(1, Ordering::Relaxed);
        } else if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_MAX {
            self.is_ledger_up.store(false, Ordering::Release);
        }
    }

    /// Asks again and again, for ever.
    pub async fn watch(&self, ledger: &Ledger) {
        let mut ticks = tokio::time::interval(ASK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let round = self.round.fetch_add(1, Ordering::AcqRel) + 1;
            let asked = ledger.clone();
            let mut answer = tokio::spawn(async move { asked.epochs().await });
            // One question at a time: the pool's own limits end it.
            let rows = loop {
                match tokio::time::timeout(ROUND_MAX, &mut answer).await {
                    Ok(Ok(Ok(rows))) => break Some(rows),
                    Ok(Ok(Err(error))) => {
                        tracing::debug!(%error, "asking for the epochs failed");
                        break None;
                    }
                    Ok(Err(_)) => break None,
                    Err(_) => self.note_late(),
                }
            };
            if let Some(rows) = &rows {
                self.learn(rows, round);
            }
            self.set_ledger_up(rows.is_some());
        }
    }

    /// A round is late. That alone is a busy pool; with nothing else answered, a loss.
    fn note_late(&self) {
        if self.answers.swap(0, Ordering::Relaxed) == 0 {
            self.set_ledger_up(false);
        }
    }

    fn learn(&self, rows: &[EpochRow], round: u64) {
        for (partition, watched) in (0_u8..).zip(&self.partitions) {
            let partition = Partition::new(partition);
            let mine = rows.iter().filter(|row| row.partition == partition);
            let current = mine.clone().map(|row| row.epoch).max().unwrap_or(Epoch::NONE);
            watched.current.fetch_max(current.0, Ordering::AcqRel);
            if watched.adopted_in.load(Ordering::Acquire) >= round {
                continue;
            }
            let mut older = mine.filter(|row| row.epoch < current);
            let is_recovering = older.any(|row| row.state != EpochState::Closed);
            watched.is_recovering.store(is_recovering, Ordering::Release);
        }
        self.is_read.store(true, Ordering::Release);
    }

    fn set_ledger_up(&self, is_up: bool) {
        self.failures.store(0, Ordering::Relaxed);
        if self.is_ledger_up.swap(is_up, Ordering::AcqRel) != is_up {
            tracing::info!(is_up, "PostgreSQL");
        }
    }

    fn of(&self, partition: Partition) -> &Watched {
        &self.partitions[usize::from(partition.get())]
    }
}

#[cfg(test)]
mod tests {
    use booking::{Nonce, Term};

    use super::*;

    const P: Partition = Partition::new(1);

    fn row(epoch: i64, state: EpochState) -> EpochRow {
        let term = Term { run_id: "r".into(), replid: "i".into() };
        let (partition, nonce) = (P, Nonce("n".into()));
        EpochRow {
            partition,
            epoch: Epoch(epoch),
            term,
            nonce,
            state,
            frozen: false,
            drained: false,
        }
    }

    #[test]
    fn a_partition_recovers_until_its_older_epochs_are_closed() {
        let epochs = Epochs::default();
        assert!(epochs.is_recovering(P) && !epochs.is_read());
        epochs.learn(&[row(1, EpochState::Sealed), row(2, EpochState::Open)], 1);
        assert!(epochs.is_recovering(P) && epochs.is_read());
        epochs.learn(&[row(2, EpochState::Open)], 2);
        assert!(!epochs.is_recovering(P));
        assert_eq!(epochs.current(P), Epoch(2));
    }

    #[test]
    fn an_answer_asked_for_before_a_newer_epoch_was_met_does_not_end_the_recovery() {
        let epochs = Epochs::default();
        epochs.round.store(5, Ordering::Relaxed);
        epochs.learn(&[row(1, EpochState::Open)], 5);
        epochs.adopt(P, Epoch(2));
        epochs.learn(&[row(1, EpochState::Open)], 5);
        assert!(epochs.is_recovering(P));
        assert_eq!(epochs.current(P), Epoch(2));
        epochs.learn(&[row(2, EpochState::Open)], 6);
        assert!(!epochs.is_recovering(P));
    }

    #[test]
    fn a_late_round_is_a_loss_only_while_nothing_is_answered() {
        let epochs = Epochs::default();
        epochs.set_ledger_up(true);
        epochs.note_check(true);
        epochs.note_late();
        assert!(epochs.is_ledger_up());
        epochs.note_late();
        assert!(!epochs.is_ledger_up());
    }

    #[test]
    fn checks_that_fail_tell_that_postgresql_is_down() {
        let epochs = Epochs::default();
        epochs.set_ledger_up(true);
        (0..FAILURES_MAX).for_each(|_| epochs.note_check(false));
        assert!(!epochs.is_ledger_up());
    }
}
