//! What PostgreSQL says of a slot that Redis was given nothing of.
//!
//! A ledger holds only slots it was granted quota of. One that was sold out before the ledger
//! began, whose release is over, or whose release is not set aside yet, is none of them, and
//! whoever asks for it is owed the reason all the same.

use std::sync::Arc;
use std::time::Duration;

use booking::{SessionId, SlotId, UnixMs};
use ledger::Ledger;
use ledger::catalogue::{Session, Slot};
use ledger::release::ReleaseWord;
use moka::future::Cache;

use super::refusals::Refusal;

/// How long a look-up is believed: a crowd at such a slot costs one a second.
const TTL: Duration = Duration::from_secs(1);
const SESSIONS_MAX: u64 = 10_000;

/// Looks slots up in PostgreSQL, once however many ask.
#[derive(Clone, Debug)]
pub struct Offers {
    ledger: Ledger,
    sessions: Cache<SessionId, Option<Arc<Session>>>,
}

impl Offers {
    /// Starts knowing nothing.
    pub fn new(ledger: Ledger) -> Self {
        let sessions = Cache::builder().max_capacity(SESSIONS_MAX).time_to_live(TTL).build();
        Self { ledger, sessions }
    }

    /// Tells why Redis sells nothing of a slot it does not know; `None` if it soon will: the slot
    /// is on offer and its quota on the way.
    pub async fn refusal(
        &self,
        slot: SlotId,
        now: UnixMs,
    ) -> Result<Option<Refusal>, Arc<ledger::Error>> {
        let id = slot.session();
        let look_up = async { self.ledger.session(id).await.map(|found| found.map(Arc::new)) };
        let session = self.sessions.try_get_with(id, look_up).await?;
        let standing = session.as_deref().filter(|session| !session.is_withdrawn);
        let mut slots = standing.into_iter().flat_map(|session| &session.slots);
        Ok(judge(slots.find(|found| found.id == slot), now))
    }
}

fn judge(slot: Option<&Slot>, now: UnixMs) -> Option<Refusal> {
    let offered = slot.and_then(|slot| Some((slot, slot.release?)));
    let Some((slot, release)) = offered else { return Some(Refusal::NotPreheated) };
    match release.word(now) {
        ReleaseWord::Closed => Some(Refusal::Closed),
        ReleaseWord::Planned | ReleaseWord::Preheated if now < release.opens_at => {
            Some(Refusal::NotOpen { opens_at: release.opens_at })
        }
        ReleaseWord::Paused => Some(Refusal::Paused),
        ReleaseWord::Planned => Some(Refusal::NotPreheated),
        ReleaseWord::Preheated | ReleaseWord::Open if slot.left == 0 => Some(Refusal::SoldOut),
        ReleaseWord::Preheated | ReleaseWord::Open => None,
    }
}

#[cfg(test)]
mod tests {
    use booking::ReleaseId;
    use ledger::catalogue::SlotRelease;
    use ledger::release::ReleaseState;

    use super::*;

    const OPENS: UnixMs = UnixMs(1_000);

    fn judged(state: ReleaseState, paused: bool, left: u32, now: i64) -> Option<Refusal> {
        let closes_at = UnixMs(2_000);
        let release =
            SlotRelease { id: ReleaseId::from(1), opens_at: OPENS, closes_at, state, paused };
        let (starts_at, ends_at) = (UnixMs(9_000), UnixMs(9_500));
        let slot = Slot {
            id: SlotId::from(256),
            starts_at,
            ends_at,
            capacity: 5,
            left,
            release: Some(release),
        };
        judge(Some(&slot), UnixMs(now))
    }

    #[test]
    fn a_release_that_is_over_or_held_up_is_told_as_such() {
        assert_eq!(judged(ReleaseState::Closed, false, 0, 1_500), Some(Refusal::Closed));
        assert_eq!(judged(ReleaseState::Preheated, false, 5, 2_000), Some(Refusal::Closed));
        assert_eq!(judged(ReleaseState::Preheated, true, 5, 1_500), Some(Refusal::Paused));
    }

    #[test]
    fn before_the_opening_the_opening_is_told() {
        let not_open = Some(Refusal::NotOpen { opens_at: OPENS });
        assert_eq!(judged(ReleaseState::Planned, false, 0, 999), not_open);
        assert_eq!(judged(ReleaseState::Preheated, false, 0, 999), not_open);
        let late = judged(ReleaseState::Planned, false, 0, 1_000);
        assert_eq!(late, Some(Refusal::NotPreheated));
    }

    #[test]
    fn an_open_slot_is_sold_out_or_its_quota_is_on_the_way() {
        assert_eq!(judged(ReleaseState::Preheated, false, 0, 1_500), Some(Refusal::SoldOut));
        assert_eq!(judged(ReleaseState::Preheated, false, 1, 1_500), None);
        assert_eq!(judge(None, UnixMs(0)), Some(Refusal::NotPreheated));
    }
}
