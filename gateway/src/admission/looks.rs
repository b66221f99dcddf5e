//! What gateways see of the outboxes: who was accepted, by whichever gateway, and is not settled yet.
//!
//! Looked at only while refusals are given from memory, and then twice a second.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use ahash::HashSet;
use booking::partition::PARTITIONS_MAX;
use booking::{Partition, PatientId};
use futures::future::join_all;
use inventory::Inventory;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};

use super::refusals::STALE_AFTER;
use crate::app::App;

/// How old a look may be, as a rule.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a wish waits for a look before Redis is asked.
const LOOK_WAIT: Duration = Duration::from_millis(100);
/// How far behind the newest row to look for whoever has left an outbox.
const ROWS_OVERLAP_MS: i64 = 1_000;
const OUTBOX_PAGE: usize = 1_000;
const OUTBOX_PAGES_MAX: usize = 100;

/// The last look at each partition's outbox.
#[derive(Debug)]
pub struct Looks {
    partitions: Vec<Looked>,
    wanted: Notify,
}

#[derive(Debug, Default)]
struct Looked {
    is_wanted: AtomicBool,
    seen: RwLock<Option<Seen>>,
    /// Wakes whoever waits for the next look.
    shown: Notify,
}

#[derive(Debug)]
struct Seen {
    patients: HashSet<PatientId>,
    /// When the look began.
    at: Instant,
}

impl Default for Looks {
    fn default() -> Self {
        let partitions = (0..PARTITIONS_MAX).map(|_| Looked::default()).collect();
        Self { partitions, wanted: Notify::new() }
    }
}

impl Looks {
    /// Tells whether a patient has an entry in the outbox; `None` if nobody has looked after `since`, or
    /// for a second: a gateway that is cut off goes on seeing what it saw before.
    pub fn has_entry(
        &self,
        patient: PatientId,
        partition: Partition,
        since: Instant,
    ) -> Option<bool> {
        let looked = self.of(partition);
        looked.is_wanted.store(true, Ordering::Relaxed);
        let found = looked.read(since, |seen| seen.patients.contains(&patient));
        if found.is_none() {
            self.wanted.notify_one();
        }
        found
    }

    /// Waits for a look that began after `since`; not for long. In the instant in which a slot sells out,
    /// everybody who asks for it would go to Redis otherwise.
    pub async fn wait(&self, partition: Partition, since: Instant) {
        let looked = self.of(partition);
        let until = Instant::now() + LOOK_WAIT;
        loop {
            let shown = looked.shown.notified();
            tokio::pin!(shown);
            // From here on none is missed.
            shown.as_mut().enable();
            if looked.read(since, |_| ()).is_some() {
                return;
            }
            looked.is_wanted.store(true, Ordering::Relaxed);
            self.wanted.notify_one();
            if tokio::time::timeout_at(until, shown).await.is_err() {
                return;
            }
        }
    }

    fn of(&self, partition: Partition) -> &Looked {
        &self.partitions[usize::from(partition.get())]
    }
}

impl Looked {
    /// What is seen, if that is knowledge.
    fn read<T>(&self, since: Instant, take: impl FnOnce(&Seen) -> T) -> Option<T> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        let is_knowledge = |seen: &&Seen| seen.at >= since && seen.at.elapsed() < STALE_AFTER;
        seen.as_ref().filter(is_knowledge).map(take)
    }

    /// Shows a look to all, and wakes whoever waits for it.
    fn show(&self, seen: Seen) {
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        self.shown.notify_waiters();
    }
}

/// Reads outboxes of partitions where refusals are answered from memory, for ever.
pub async fn follow(app: &App) {
    let looks = &app.memory.looks;
    // From the beginning of one look to that of the next: what was seen is as old as its beginning.
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = looks.wanted.notified() => ticks.reset(),
        }
        let wanted = (0..PARTITIONS_MAX)
            .map(Partition::new)
            .filter(|partition| looks.of(*partition).is_wanted.swap(false, Ordering::Relaxed));
        let at = Instant::now();
        let seen = wanted.map(async |partition| {
            let patients = outbox_patients(&app.inventory, partition).await?;
            Some((partition, Seen { patients, at }))
        });
        let seen: Vec<_> = join_all(seen).await.into_iter().flatten().collect();
        if seen.is_empty() {
            continue;
        }
        let waiters = &*app.waiters;
        // The rows after the outboxes, and all of them: else silence would not be knowledge.
        let caught_up =
            app.changes.catch_up(&app.ledger, &app.memory, waiters, ROWS_OVERLAP_MS).await;
        if !matches!(caught_up, Ok(true)) {
            continue;
        }
        for (partition, seen) in seen {
            looks.of(partition).show(seen);
        }
        metrics::histogram!("slotrush_outbox_look_seconds").record(at.elapsed().as_secs_f64());
    }
}

async fn outbox_patients(
    inventory: &Inventory,
    partition: Partition,
) -> Option<HashSet<PatientId>> {
    let mut patients = HashSet::default();
    let mut cursor = 0;
    for _ in 0..OUTBOX_PAGES_MAX {
        let (next, page) = inventory.scan_outbox(partition, cursor, OUTBOX_PAGE).await.ok()?;
        if !page.unreadable.is_empty() {
            return None;
        }
        patients.extend(page.bookings.iter().map(|booking| booking.patient));
        if next == 0 {
            return Some(patients);
        }
        cursor = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Partition = Partition::new(0);

    fn seen(patients: &[i64], at: Instant) -> Seen {
        Seen { patients: patients.iter().copied().map(PatientId::from).collect(), at }
    }

    #[test]
    fn silence_of_an_old_look_is_no_knowledge() {
        let (looks, patient) = (Looks::default(), PatientId::from(1));
        let long_ago = Instant::now().checked_sub(2 * STALE_AFTER).expect("later than that");
        let has_entry_after_look = |at| {
            looks.of(HERE).show(seen(&[], at));
            looks.has_entry(patient, HERE, long_ago)
        };
        assert_eq!(has_entry_after_look(Instant::now()), Some(false));
        assert_eq!(has_entry_after_look(long_ago), None, "whoever won since is not in it");
    }

    #[tokio::test]
    async fn who_waits_for_a_look_waits_for_one_that_began_late_enough() {
        let looks = Looks::default();
        let before = Instant::now();
        let since = before + Duration::from_nanos(1);
        let beside = async {
            looks.of(HERE).show(seen(&[], before));
            tokio::task::yield_now().await;
            looks.of(HERE).show(seen(&[1], Instant::now().max(since)));
        };
        tokio::join!(looks.wait(HERE, since), beside);
        assert_eq!(looks.has_entry(PatientId::from(1), HERE, since), Some(true));
        assert_eq!(looks.has_entry(PatientId::from(2), HERE, since), Some(false));
    }

    #[tokio::test]
    async fn nobody_waits_long_for_a_look_that_does_not_come() {
        let looks = Looks::default();
        let waited = tokio::time::timeout(100 * LOOK_WAIT, looks.wait(HERE, Instant::now()));
        assert!(waited.await.is_ok());
    }
}
