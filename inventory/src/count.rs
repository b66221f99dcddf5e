//! Counters of slots, as the ledger has them.

use booking::{Partition, SessionId, SlotId};
use redis::Value;

use crate::error::{Error, unreadable};
use crate::packed::Counters;
use crate::reply::Reply;
use crate::script::{Call, SNAPSHOT};
use crate::step::SESSIONS_PER_CALL_MAX;
use crate::{Inventory, keys};

/// A slot's counters in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotCount {
    /// The slot.
    pub slot: SlotId,
    /// Still to sell.
    pub left: u32,
    /// Ever granted in this epoch.
    pub granted: u32,
    /// Sold in this epoch.
    pub sold: u32,
}

impl Inventory {
    /// Reads the counters of these sessions, of whatever epoch the ledger is; sessions it does
    /// not hold are absent.
    pub async fn snapshot(
        &self,
        partition: Partition,
        sessions: &[SessionId],
    ) -> Result<Vec<SlotCount>, Error> {
        let mut all = Vec::new();
        for some in sessions.chunks(SESSIONS_PER_CALL_MAX) {
            let mut keys = vec![keys::ledger(partition)];
            keys.extend(some.iter().map(|session| keys::session(partition, *session)));
            let call = Call::new(&SNAPSHOT, &keys);
            all.extend(parse(self.links.call_cold(&call).await?, some)?);
        }
        Ok(all)
    }
}

pub(crate) fn parse(value: Value, sessions: &[SessionId]) -> Result<Vec<SlotCount>, Error> {
    let mut reply = Reply::parse(value)?;
    match reply.word() {
        "counters" => counts(&mut reply, sessions),
        _ => Err(unreadable("reply")),
    }
}

/// Reads the counters of sessions, in the order they were asked for.
pub(crate) fn counts(reply: &mut Reply, sessions: &[SessionId]) -> Result<Vec<SlotCount>, Error> {
    let mut all = Vec::new();
    for session in sessions {
        for (field, value) in reply.next_fields()? {
            if field == "e" || field == "r" {
                continue;
            }
            let ordinal = field.parse().map_err(|_| unreadable("slot"))?;
            let Counters { left, granted, sold } =
                Counters::parse(&value).ok_or_else(|| unreadable("slot"))?;
            all.push(SlotCount { slot: SlotId::of(*session, ordinal), left, granted, sold });
        }
    }
    Ok(all)
}
