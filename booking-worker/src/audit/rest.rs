//! I6 while the program runs: at rest, what PostgreSQL has set aside for Redis is what Redis has left.
//!
//! A partition is *at rest* while its one epoch that is not closed is the true ledger's and its outbox is
//! empty: a booking leaves the outbox only when its row stands, so whatever was sold is consumed. Then
//! `left` in Redis is granted less consumed in PostgreSQL, or places lie where nobody sells them. The
//! two are not read at one instant, and a grant is applied a moment after it is made, so only a
//! difference that stays the same for nearly half a minute is a leak.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use booking::{Partition, SlotId};
use inventory::Inspection;
use ledger::audit::Violation;
use ledger::epoch::{EpochRow, EpochState};

use super::SESSIONS_PER_READ;
use crate::Servers;
use crate::reconcile::Error;

/// How long a difference must stay the same …
const UNMOVED_MIN: Duration = Duration::from_secs(30);
/// … and in how many audits, however far apart they are.
const AUDITS_MIN: u32 = 3;

/// What differs at rest, and for how long.
#[derive(Debug)]
pub(super) struct Rest {
    audits_min: u32,
    unequal: BTreeMap<SlotId, (Unequal, u32)>,
}

/// A slot of which Redis has something else left than PostgreSQL set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unequal {
    partition: Partition,
    left: u32,
    set_aside: u32,
}

impl Rest {
    /// Expects an audit `every` so often. Counted, not timed: a process that stood still has not looked.
    pub(super) fn new(every: Duration) -> Self {
        let audits = UNMOVED_MIN.as_millis().div_ceil(every.as_millis().max(1));
        let audits_min = u32::try_from(audits).unwrap_or(u32::MAX).max(AUDITS_MIN);
        Self { audits_min, unequal: BTreeMap::new() }
    }

    /// Forgets what was seen: not every audit of late was made here, or to its end.
    pub(super) fn forget(&mut self) {
        self.unequal.clear();
    }

    /// Looks at every partition that is at rest; returns the leaks.
    pub(super) async fn audit(&mut self, servers: &Servers) -> Result<Vec<Violation>, Error> {
        let (mut at_rest, mut found) = (0_u32, BTreeMap::new());
        let epochs = servers.ledger.epochs().await?;
        for row in epochs.iter().filter(|row| row.state == EpochState::Open) {
            let is_only = epochs.iter().all(|other| {
                other.partition != row.partition
                    || other.epoch == row.epoch
                    || other.state == EpochState::Closed
            });
            if is_only && is_at_rest(row, &servers.inventory.inspect(row.partition).await?) {
                at_rest += 1;
                found.extend(unequal(servers, row).await?);
            }
        }
        metrics::gauge!("slotrush_audit_partitions_at_rest").set(at_rest);
        Ok(self.note(found))
    }

    /// Notes what differs now, in all partitions at rest; returns what has for long.
    fn note(&mut self, found: BTreeMap<SlotId, Unequal>) -> Vec<Violation> {
        let before = std::mem::take(&mut self.unequal);
        let seen = |slot, now: Unequal| {
            let same = before.get(&slot).filter(|(then, _)| *then == now);
            (slot, (now, same.map_or(1, |(_, times)| times.saturating_add(1))))
        };
        self.unequal = found.into_iter().map(|(slot, now)| seen(slot, now)).collect();
        let leaks = self.unequal.iter().filter(|(_, (_, times))| *times >= self.audits_min);
        leaks.map(|(slot, (unequal, _))| leak(*slot, *unequal)).collect()
    }
}

fn is_at_rest(row: &EpochRow, seen: &Inspection) -> bool {
    let is_true = seen
        .ledger
        .as_ref()
        .is_some_and(|head| head.open && head.epoch == row.epoch && head.term == seen.term);
    is_true && seen.outbox_len == 0
}

async fn unequal(servers: &Servers, row: &EpochRow) -> Result<Vec<(SlotId, Unequal)>, Error> {
    let partition = row.partition;
    let set_aside = servers.ledger.unconsumed(partition, row.epoch).await?;
    let mut sessions: Vec<_> = set_aside.iter().map(|(slot, _)| slot.session()).collect();
    sessions.dedup();
    let mut left = BTreeMap::new();
    for some in sessions.chunks(SESSIONS_PER_READ) {
        let counts = servers.inventory.snapshot(partition, some).await?;
        left.extend(counts.into_iter().map(|count| (count.slot, count.left)));
    }
    let set_aside: BTreeMap<SlotId, u32> = set_aside.into_iter().collect();
    let of = |counts: &BTreeMap<SlotId, u32>, slot| counts.get(&slot).copied().unwrap_or(0);
    // Also what Redis sells without a grant, in a session that has some.
    let slots: BTreeSet<SlotId> = left.keys().chain(set_aside.keys()).copied().collect();
    let compare = |slot| {
        let (left, set_aside) = (of(&left, slot), of(&set_aside, slot));
        (left != set_aside).then_some((slot, Unequal { partition, left, set_aside }))
    };
    Ok(slots.into_iter().filter_map(compare).collect())
}

fn leak(slot: SlotId, unequal: Unequal) -> Violation {
    let Unequal { partition, left, set_aside } = unequal;
    let detail = format!(
        "partition {partition}, slot {slot}: at rest {left} left in Redis, {set_aside} set aside for it"
    );
    Violation { invariant: "I6", detail }
}

#[cfg(test)]
mod tests {
    use booking::{Epoch, Nonce, Term};
    use inventory::LedgerHead;

    use super::*;

    const HERE: Partition = Partition::new(0);

    #[test]
    fn a_difference_at_rest_is_a_leak_when_it_stays_the_same_for_half_a_minute() {
        let mut rest = Rest::new(Duration::from_secs(10));
        let (slot, other) = (SlotId::from(512), SlotId::from(513));
        let now = |left| Unequal { partition: HERE, left, set_aside: 5 };
        let both = || BTreeMap::from([(slot, now(4)), (other, now(3))]);
        assert_eq!(rest.note(both()), []);
        assert_eq!(rest.note(both()), []);
        let moved = BTreeMap::from([(slot, now(4)), (other, now(2))]);
        assert_eq!(rest.note(moved), [leak(slot, now(4))]);
        assert_eq!(rest.note(BTreeMap::new()), [], "not at rest any more");
        assert_eq!(rest.note(both()), []);
        assert_eq!(Rest::new(Duration::from_secs(1)).audits_min, 30);
        assert_eq!(Rest::new(Duration::from_hours(1)).audits_min, 3);
    }

    #[test]
    fn only_the_true_ledger_of_the_epoch_with_an_empty_outbox_is_at_rest() {
        let term = Term { run_id: "r".into(), replid: "i".into() };
        let nonce = Nonce("n".into());
        let row = EpochRow {
            partition: HERE,
            epoch: Epoch(2),
            term: term.clone(),
            nonce: nonce.clone(),
            state: EpochState::Open,
            frozen: false,
            drained: false,
        };
        let seen = |epoch, open, outbox_len| {
            let (term, nonce) = (term.clone(), nonce.clone());
            let head = LedgerHead {
                epoch: Epoch(epoch),
                term: term.clone(),
                nonce,
                open,
                held: 0,
                settled: 0,
            };
            Inspection { ledger: Some(head), term, outbox_len }
        };
        assert!(is_at_rest(&row, &seen(2, true, 0)));
        assert!(!is_at_rest(&row, &seen(2, true, 1)));
        assert!(!is_at_rest(&row, &seen(2, false, 0)));
        assert!(!is_at_rest(&row, &seen(1, true, 0)));
        let other = Term { run_id: "r".into(), replid: "j".into() };
        assert!(!is_at_rest(&row, &Inspection { term: other, ..seen(2, true, 0) }));
    }
}
