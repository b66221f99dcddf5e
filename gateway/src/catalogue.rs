//! What is on offer, remembered for a moment, so that a crowd looking at one session costs one
//! look-up a second.
//!
//! Everything shown may be a second old; nothing here decides. How many places are left comes from
//! Redis, and if it does not answer, from PostgreSQL, which then counts what Redis was given as
//! left.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use booking::{Partition, SessionId, SlotId};
use inventory::Inventory;
use ledger::catalogue::Session;
use ledger::release::ReleaseState;
use moka::future::Cache;

use crate::problem::Problem;

/// How long what is shown of sessions is believed.
pub const VIEW_TTL: Duration = Duration::from_secs(1);

/// How many sessions, and how many lists of them, are remembered.
const REMEMBERED_MAX: u64 = 10_000;

/// Sessions per question to Redis.
const SESSIONS_PER_SNAPSHOT_MAX: usize = 128;

/// Why there is nothing to remember.
#[derive(Debug)]
enum Miss {
    Absent,
    Failed(Problem),
}

/// What is on offer, cached. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Catalogue {
    views: Cache<String, bytes::Bytes>,
}

impl Default for Catalogue {
    fn default() -> Self {
        Self { views: Cache::builder().max_capacity(REMEMBERED_MAX).time_to_live(VIEW_TTL).build() }
    }
}

impl Catalogue {
    /// Returns the answer remembered under `name`, or has `make` make it: once, however many ask.
    /// `None`, and what failed, are not remembered.
    pub async fn view<F>(&self, name: String, make: F) -> Result<Option<bytes::Bytes>, Problem>
    where
        F: Future<Output = Result<Option<bytes::Bytes>, Problem>>,
    {
        settle(self.views.try_get_with(name, async { known(make.await) }).await)
    }
}

/// Puts what is left by Redis's count into the slots of these sessions; where Redis does not say,
/// PostgreSQL's count stays.
pub async fn count_left(inventory: &Inventory, sessions: &mut [Session]) {
    let mut by_partition: BTreeMap<Partition, Vec<SessionId>> = BTreeMap::new();
    for session in sessions.iter() {
        by_partition.entry(session.partition).or_default().push(session.id);
    }
    let left = left_of(inventory, &by_partition).await.unwrap_or_default();
    for slot in sessions.iter_mut().flat_map(|session| &mut session.slots) {
        slot.left = match slot.release.map(|release| release.state) {
            None | Some(ReleaseState::Closed) => 0,
            // Not set aside yet: all of it will be.
            Some(ReleaseState::Planned) => slot.capacity,
            Some(ReleaseState::Preheated) => left.get(&slot.id).copied().unwrap_or(slot.left),
        };
    }
}

/// Asks Redis what is left in these sessions; `None` if any question went unanswered.
pub async fn left_of(
    inventory: &Inventory,
    sessions: &BTreeMap<Partition, Vec<SessionId>>,
) -> Option<HashMap<SlotId, u32>> {
    if !inventory.is_up() {
        return None;
    }
    let mut left = HashMap::new();
    for (partition, sessions) in sessions {
        for some in sessions.chunks(SESSIONS_PER_SNAPSHOT_MAX) {
            match inventory.snapshot(*partition, some).await {
                Ok(counts) => left.extend(counts.iter().map(|count| (count.slot, count.left))),
                Err(error) => {
                    tracing::debug!(%error, %partition, "no snapshot");
                    return None;
                }
            }
        }
    }
    Some(left)
}

fn known<T>(found: Result<Option<T>, Problem>) -> Result<T, Miss> {
    found.map_err(Miss::Failed)?.ok_or(Miss::Absent)
}

fn settle<T>(got: Result<T, Arc<Miss>>) -> Result<Option<T>, Problem> {
    match got {
        Ok(value) => Ok(Some(value)),
        Err(miss) => match &*miss {
            Miss::Absent => Ok(None),
            Miss::Failed(problem) => Err(problem.clone()),
        },
    }
}
