//! L2: how soon a part is of use again after its return, seen by patients with free places before them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use booking::{Partition, PartitionCount, SlotId};
use rush::answer::{Answer, Status};
use rush::prepare::Member;
use rush::tokens::Minter;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use super::fault::Part;
use super::visitor::{Visitor, Waiting};

/// How often a part on its way back is tried.
const TRY_EVERY: Duration = Duration::from_millis(150);
/// How often places are taken while writes are lost: few of the scouts, and some in any case.
const PRESS_EVERY: Duration = Duration::from_millis(50);
/// When waiting for a part ends: this many times what is promised.
const PATIENCE: u32 = 10;

/// What a part is good for, and how soon after its return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// A place is held.
    Admission,
    /// "Queued" is answered.
    Publishing,
    /// A booking becomes an appointment.
    Persisting,
}

impl Use {
    pub(super) const fn of(part: Part) -> Option<Self> {
        match part {
            Part::Redis => Some(Self::Admission),
            Part::Rabbit => Some(Self::Publishing),
            Part::Postgres => Some(Self::Persisting),
            Part::Gateway | Part::Worker | Part::Network | Part::Messages | Part::Clock => None,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Admission => "admission",
            Self::Publishing => "publishing",
            Self::Persisting => "persisting",
        }
    }

    /// L2.
    pub(super) const fn promised(self) -> Duration {
        match self {
            Self::Admission => Duration::from_secs(5),
            Self::Publishing | Self::Persisting => Duration::from_secs(2),
        }
    }

    /// From here on it is not slow but broken, even on a machine with other work to do.
    pub(super) const fn unbearable(self) -> Duration {
        self.promised().saturating_mul(PATIENCE)
    }
}

/// Those who try, one after the other, each with places to get in every partition.
#[derive(Debug)]
pub(super) struct Scouts {
    pub(super) waiting: Arc<Waiting>,
    pub(super) members: Vec<Member>,
    pub(super) minter: Arc<Minter>,
    pub(super) partitions: PartitionCount,
    next: usize,
    tries: JoinSet<()>,
}

impl Scouts {
    pub(super) fn new(
        waiting: Arc<Waiting>,
        members: Vec<Member>,
        minter: Arc<Minter>,
        partitions: PartitionCount,
    ) -> Self {
        Self { waiting, members, minter, partitions, next: 0, tries: JoinSet::new() }
    }

    /// Measures how long it takes until the part is of use in every partition; at most
    /// [`Use::unbearable`]. Tries overlap, so that one that hangs does not hide the next.
    pub(super) async fn measure(&mut self, what: Use) -> Duration {
        let from = Instant::now();
        let mut missing = self.slot_by_partition();
        let (sender, mut arrived) = mpsc::unbounded_channel();
        let mut clock = interval(TRY_EVERY);
        let mut door = 0;
        while !missing.is_empty() && from.elapsed() < what.unbearable() {
            tokio::select! {
                _ = clock.tick() => {
                    door += 1;
                    for (partition, slot) in &missing {
                        self.try_once(what, *partition, *slot, door, sender.clone());
                    }
                }
                found = arrived.recv() => {
                    missing.retain(|partition, _| Some(*partition) != found);
                }
            }
        }
        from.elapsed()
    }

    /// Takes places in every partition for so long: whoever loses writes must have some to lose, also
    /// when the crowd's places are sold.
    pub(super) async fn press(&mut self, lasts: Duration) {
        let until = Instant::now() + lasts;
        let slots = self.slot_by_partition();
        // Nobody listens: what comes of it is in the records.
        let (sender, _) = mpsc::unbounded_channel();
        let mut clock = interval(PRESS_EVERY);
        let mut door = 0;
        while Instant::now() < until {
            clock.tick().await;
            door += 1;
            for (partition, slot) in &slots {
                self.try_once(Use::Admission, *partition, *slot, door, sender.clone());
            }
        }
    }

    /// Waits until all tries have their answers, so that every request is written down.
    pub(super) async fn ended(&mut self) {
        while self.tries.join_next().await.is_some() {}
    }

    fn slot_by_partition(&self) -> BTreeMap<Partition, SlotId> {
        let slots = self.waiting.slots.iter();
        slots.map(|slot| (self.partitions.of_slot(*slot), *slot)).collect()
    }

    fn try_once(
        &mut self,
        what: Use,
        partition: Partition,
        slot: SlotId,
        door: usize,
        done: mpsc::UnboundedSender<Partition>,
    ) {
        let nth = self.next;
        self.next += 1;
        let Some(member) = self.members.get(nth % self.members.len().max(1)) else { return };
        let Ok(authorization) = self.minter.mint(*member) else { return };
        let seed = u64::try_from(nth).unwrap_or(0);
        let waiting = Arc::clone(&self.waiting);
        let door = door % waiting.doors.len().max(1);
        let key = format!("{}-scout-{nth}", waiting.run);
        let scout = Visitor::new(*member, authorization, waiting, seed);
        self.tries.spawn(async move {
            if is_of_use(what, scout, slot, &key, door).await {
                // Nobody listens any more if another was faster.
                let _ = done.send(partition);
            }
        });
    }
}

async fn is_of_use(what: Use, mut scout: Visitor, slot: SlotId, key: &str, door: usize) -> bool {
    match (what, scout.ask(slot, key, door).await) {
        (Use::Admission, Answer::Booking { .. })
        | (Use::Publishing, Answer::Booking { status: Status::Queued | Status::Booked, .. }) => {
            true
        }
        (Use::Persisting, Answer::Booking { id, .. }) => {
            scout.follow(id).await == Some(Status::Booked)
        }
        _ => false,
    }
}

/// Percentiles of durations, ms.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Percentiles {
    /// How many there were.
    pub count: usize,
    /// Half of them were at most this long.
    pub p50: u64,
    /// Nine of ten.
    pub p90: u64,
    /// The longest.
    pub max: u64,
}

impl Percentiles {
    pub(super) fn of(all: &[u64]) -> Self {
        let mut sorted = all.to_vec();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let index = (sorted.len() * percent).div_ceil(100).max(1) - 1;
            sorted.get(index).copied().unwrap_or(0)
        };
        Self { count: sorted.len(), p50: at(50), p90: at(90), max: at(100) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let all: Vec<u64> = (1..=10).rev().collect();
        let Percentiles { count, p50, p90, max } = Percentiles::of(&all);
        assert_eq!((count, p50, p90, max), (10, 5, 9, 10));
        assert_eq!(Percentiles::of(&[]).max, 0);
    }
}
