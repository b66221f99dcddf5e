//! I6 while the program runs: at rest, what PostgreSQL has set aside for Redis is what Redis has left.
//!
//! A partition is *at rest* while its one epoch that is not closed is the true ledger's and its outbox is
//! empty: a booking leaves the outbox only when its row stands, so whatever was sold is consumed. Then
//! `left` in Redis is granted less consumed in PostgreSQL, or places lie where nobody sells them. The
//! two are not read at one instant, and a grant is applied a moment after it is made, so only a
//! difference that stays the same for nearly half a minute is a leak. A pass finds what differs; what does
//! is looked at again and again, however long the pass.

use std::collections::BTreeMap;
use std::time::Duration;

use booking::{Epoch, Partition, SessionId, SlotId};
use inventory::Inspection;
use ledger::audit::Violation;
use ledger::epoch::{EpochRow, EpochState};

use super::places;
use crate::Servers;
use crate::reconcile::Error;

/// How long a difference must stay the same …
const UNMOVED_MIN: Duration = Duration::from_secs(30);
/// … and at how many looks, however far apart they are.
const LOOKS_MIN: u32 = 3;
/// Sessions that are looked at again. What differs beyond them is found by a later pass.
const SESSIONS_MAX: usize = 100;

/// What differs at rest, and for how long.
#[derive(Debug)]
pub(super) struct Rest {
    looks_min: u32,
    unequal: BTreeMap<SlotId, (Unequal, u32)>,
}

/// A slot of which Redis has something else left than PostgreSQL set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unequal {
    pub(super) partition: Partition,
    pub(super) left: u32,
    pub(super) set_aside: u32,
}

/// How a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// The epoch that is open.
    pub(super) epoch: Option<Epoch>,
    /// Whether everything sold is consumed.
    pub(super) is_at_rest: bool,
}

impl Rest {
    /// Expects a look `every` so often. Counted, not timed: a process that stood still has not looked.
    pub(super) fn new(every: Duration) -> Self {
        let looks = UNMOVED_MIN.as_millis().div_ceil(every.as_millis().max(1));
        let looks_min = u32::try_from(looks).unwrap_or(u32::MAX).max(LOOKS_MIN);
        Self { looks_min, unequal: BTreeMap::new() }
    }

    /// Forgets what was seen: not every look of late was taken here.
    pub(super) fn forget(&mut self) {
        self.unequal.clear();
    }

    /// Takes up what a pass found to differ in a partition at rest.
    pub(super) fn suspect(&mut self, found: Vec<(SlotId, Unequal)>) {
        let mut sessions = self.sessions().len();
        for (slot, unequal) in found {
            if !self.has(slot.session()) {
                if sessions >= SESSIONS_MAX {
                    continue;
                }
                sessions += 1;
            }
            self.unequal.entry(slot).or_insert((unequal, 1));
        }
    }

    /// Looks again at every session in which something differed. What can't be looked at now, because its
    /// partition is not at rest, stays what it was: only a look that finds it equal clears it.
    pub(super) async fn look_again(&mut self, servers: &Servers) -> Result<(), Error> {
        let (mut found, mut looked) = (BTreeMap::new(), Vec::new());
        let mut states = BTreeMap::new();
        for session in self.sessions() {
            let partition = servers.partitions().of_session(session);
            let state = match states.get(&partition) {
                Some(state) => *state,
                None => state(servers, partition).await?,
            };
            states.insert(partition, state);
            if let Some(epoch) = state.epoch.filter(|_| state.is_at_rest) {
                let look = places::look_at_session(servers, partition, epoch, session).await?;
                found.extend(look.unequal);
                looked.push(session);
            }
        }
        self.note(found, &looked);
        Ok(())
    }

    /// What has differed for long.
    pub(super) fn leaks(&self) -> Vec<Violation> {
        let leaks = self.unequal.iter().filter(|(_, (_, looks))| *looks >= self.looks_min);
        leaks.map(|(slot, (unequal, _))| leak(*slot, *unequal)).collect()
    }

    fn sessions(&self) -> Vec<SessionId> {
        let mut sessions: Vec<SessionId> = self.unequal.keys().map(|slot| slot.session()).collect();
        sessions.dedup();
        sessions
    }

    fn has(&self, session: SessionId) -> bool {
        let slots = SlotId::of(session, 0)..=SlotId::of(session, u8::MAX);
        self.unequal.range(slots).next().is_some()
    }

    /// Notes what differs now in the sessions that were looked at, which are in order.
    fn note(&mut self, found: BTreeMap<SlotId, Unequal>, looked: &[SessionId]) {
        let before = std::mem::take(&mut self.unequal);
        let was_looked_at = |slot: &SlotId| looked.binary_search(&slot.session()).is_ok();
        let kept = before.iter().filter(|(slot, _)| !was_looked_at(slot));
        let kept: Vec<_> = kept.map(|(slot, seen)| (*slot, *seen)).collect();
        let seen = |(slot, now): (SlotId, Unequal)| {
            let same = before.get(&slot).filter(|(then, _)| *then == now);
            (slot, (now, same.map_or(1, |(_, looks)| looks.saturating_add(1))))
        };
        self.unequal = found.into_iter().map(seen).chain(kept).collect();
    }
}

/// Asks both stores how a partition stands.
pub(super) async fn state(servers: &Servers, partition: Partition) -> Result<State, Error> {
    let epochs = servers.ledger.epochs().await?;
    let mut unclosed =
        epochs.iter().filter(|row| row.partition == partition && row.state != EpochState::Closed);
    let Some(row) = unclosed.clone().find(|row| row.state == EpochState::Open) else {
        return Ok(State { epoch: None, is_at_rest: false });
    };
    let is_only = unclosed.all(|other| other.epoch == row.epoch);
    let is_at_rest = is_only && is_at_rest(row, &servers.inventory.inspect(partition).await?);
    Ok(State { epoch: Some(row.epoch), is_at_rest })
}

fn is_at_rest(row: &EpochRow, seen: &Inspection) -> bool {
    let is_true = seen
        .ledger
        .as_ref()
        .is_some_and(|head| head.open && head.epoch == row.epoch && head.term == seen.term);
    is_true && seen.outbox_len == 0
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
        let here = [slot.session()];
        rest.suspect(both().into_iter().collect());
        rest.note(both(), &here);
        // Another pass comes by: that is no look of its own.
        rest.suspect(both().into_iter().collect());
        assert_eq!(rest.leaks(), []);
        rest.note(BTreeMap::from([(slot, now(4)), (other, now(2))]), &here);
        assert_eq!(rest.leaks(), [leak(slot, now(4))]);
        rest.note(BTreeMap::new(), &[]);
        assert_eq!(rest.leaks(), [leak(slot, now(4))], "not at rest: it was not looked at");
        rest.note(BTreeMap::new(), &here);
        assert_eq!(rest.leaks(), [], "it was, and is equal");
        rest.note(both(), &here);
        assert_eq!(rest.leaks(), []);
        assert_eq!(Rest::new(Duration::from_secs(1)).looks_min, 30);
        assert_eq!(Rest::new(Duration::from_hours(1)).looks_min, 3);
    }

    #[test]
    fn no_more_sessions_are_looked_at_again_than_a_moment_takes() {
        let mut rest = Rest::new(Duration::from_secs(10));
        let differs = Unequal { partition: HERE, left: 1, set_aside: 2 };
        let slots = (1..=2 * 256 * 256).map(SlotId::from);
        rest.suspect(slots.map(|slot| (slot, differs)).collect());
        assert_eq!(rest.sessions().len(), SESSIONS_MAX);
        assert_eq!(rest.unequal.len(), SESSIONS_MAX * 256 - 1);
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
