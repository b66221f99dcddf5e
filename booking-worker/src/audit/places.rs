//! Some sessions of a partition, held against each other in PostgreSQL and Redis.

use std::collections::{BTreeMap, BTreeSet};

use booking::{Epoch, Partition, SlotId};
use inventory::SlotCount;
use ledger::audit::Violation;

use super::rest::Unequal;
use crate::Servers;
use crate::reconcile::Error;

/// Slots that are looked at together: more than a session has, so that a look always gets on.
pub(super) const SLOTS_PER_LOOK: u16 = 2_000;

/// What a look at some sessions showed.
pub(super) struct Look {
    /// I11: what the ledger in Redis was granted is not left or sold. Each session at one instant.
    pub(super) unconserved: Vec<Violation>,
    /// Where Redis has something else left than PostgreSQL set aside.
    pub(super) unequal: Vec<(SlotId, Unequal)>,
    /// Where to look next; `None` at the end.
    pub(super) next: Option<SlotId>,
}

/// Looks at the sessions the epoch has allotments of, from a session's first slot on.
pub(super) async fn look(
    servers: &Servers,
    partition: Partition,
    epoch: Epoch,
    first: SlotId,
) -> Result<Look, Error> {
    let ledger = &servers.ledger;
    let mut set_aside = ledger.unconsumed(partition, epoch, first, SLOTS_PER_LOOK).await?;
    // Of the last session of a full page there may be more.
    let is_full = set_aside.len() >= usize::from(SLOTS_PER_LOOK);
    let last = set_aside.last().filter(|_| is_full).map(|(slot, _)| slot.session());
    set_aside.retain(|(slot, _)| Some(slot.session()) != last);
    let next = last.map(|session| SlotId::of(session, 0));
    let look = compare(servers, partition, &set_aside).await?;
    Ok(Look { next, ..look })
}

/// Looks at one session.
pub(super) async fn look_at_session(
    servers: &Servers,
    partition: Partition,
    epoch: Epoch,
    session: booking::SessionId,
) -> Result<Look, Error> {
    let first = SlotId::of(session, 0);
    let mut set_aside = servers.ledger.unconsumed(partition, epoch, first, 256).await?;
    set_aside.retain(|(slot, _)| slot.session() == session);
    compare(servers, partition, &set_aside).await
}

async fn compare(
    servers: &Servers,
    partition: Partition,
    set_aside: &[(SlotId, u32)],
) -> Result<Look, Error> {
    let mut sessions: Vec<_> = set_aside.iter().map(|(slot, _)| slot.session()).collect();
    sessions.dedup();
    let counts = servers.inventory.snapshot(partition, &sessions).await?;
    let unconserved = counts.iter().filter_map(|count| unconserved(partition, count)).collect();
    let left: BTreeMap<SlotId, u32> = counts.iter().map(|count| (count.slot, count.left)).collect();
    let set_aside: BTreeMap<SlotId, u32> = set_aside.iter().copied().collect();
    let of = |counts: &BTreeMap<SlotId, u32>, slot| counts.get(&slot).copied().unwrap_or(0);
    // Also what Redis sells without a grant, in a session that has some.
    let slots: BTreeSet<SlotId> = left.keys().chain(set_aside.keys()).copied().collect();
    let compare = |slot| {
        let (left, set_aside) = (of(&left, slot), of(&set_aside, slot));
        (left != set_aside).then_some((slot, Unequal { partition, left, set_aside }))
    };
    Ok(Look { unconserved, unequal: slots.into_iter().filter_map(compare).collect(), next: None })
}

fn unconserved(partition: Partition, count: &SlotCount) -> Option<Violation> {
    let SlotCount { slot, left, granted, sold } = *count;
    if left.checked_add(sold) == Some(granted) {
        return None;
    }
    let detail = format!(
        "partition {partition}, slot {slot}: granted {granted} is not left {left} + sold {sold}"
    );
    Some(Violation { invariant: "I11", detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_granted_must_be_left_or_sold() {
        let slot = SlotId::from(512);
        let count = |left, granted, sold| SlotCount { slot, left, granted, sold };
        let here = Partition::new(0);
        assert_eq!(unconserved(here, &count(2, 5, 3)), None);
        assert!(unconserved(here, &count(3, 5, 3)).is_some());
        assert!(unconserved(here, &count(u32::MAX, 0, 1)).is_some());
    }
}
