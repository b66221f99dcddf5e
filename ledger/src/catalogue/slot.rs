//! Slots: the time bands of a session.

use booking::{ReleaseId, SlotId, UnixMs};

use crate::release::{ReleaseState, ReleaseWord};
use crate::{Error, Ledger};

/// A slot to be made with its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewSlot {
    /// First instant.
    pub starts_at: UnixMs,
    /// First instant after.
    pub ends_at: UnixMs,
    /// Places there are.
    pub capacity: u32,
}

/// A slot, as shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its id.
    pub id: SlotId,
    /// First instant.
    pub starts_at: UnixMs,
    /// First instant after.
    pub ends_at: UnixMs,
    /// Places there are.
    pub capacity: u32,
    /// Places that may still be sold by what PostgreSQL knows: least(capacity, target) - booked,
    /// quota that Redis holds and has not sold included.
    pub left: u32,
    /// The release it goes, or went, on offer with.
    pub release: Option<SlotRelease>,
}

/// What a slot shows of its release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRelease {
    /// The release.
    pub id: ReleaseId,
    /// First instant of booking.
    pub opens_at: UnixMs,
    /// First instant after.
    pub closes_at: UnixMs,
    /// Its stored state.
    pub state: ReleaseState,
    /// Held up by an admin.
    pub paused: bool,
}

impl SlotRelease {
    /// Returns the word for what the release is at `now`.
    pub fn word(&self, now: UnixMs) -> ReleaseWord {
        ReleaseWord::of(self.state, self.paused, self.opens_at, self.closes_at, now)
    }
}

impl Ledger {
    /// Returns those of `slots` that have begun at `now`.
    pub async fn slots_begun(&self, slots: &[SlotId], now: UnixMs) -> Result<Vec<SlotId>, Error> {
        let slots: Vec<i64> = slots.iter().map(|slot| slot.get()).collect();
        let ids: Vec<i64> = self
            .run(move |pool| async move {
                sqlx::query_scalar(BEGUN).bind(slots).bind(now.0).fetch_all(&pool).await
            })
            .await?;
        Ok(ids.into_iter().map(SlotId::from).collect())
    }
}

/// A row of slot and its release, if any.
#[derive(sqlx::FromRow)]
pub(super) struct SlotRow {
    pub(super) id: i64,
    starts_at: jiff_sqlx::Timestamp,
    ends_at: jiff_sqlx::Timestamp,
    capacity: i32,
    left: i32,
    release_id: Option<i64>,
    opens_at: Option<jiff_sqlx::Timestamp>,
    closes_at: Option<jiff_sqlx::Timestamp>,
    state: Option<String>,
    paused: Option<bool>,
}

impl SlotRow {
    pub(super) fn read(self) -> Result<Slot, Error> {
        let release = match (self.release_id, self.opens_at, self.closes_at, self.state) {
            (Some(id), Some(opens_at), Some(closes_at), Some(state)) => Some(SlotRelease {
                id: ReleaseId::from(id),
                opens_at: crate::release::unix_ms(opens_at),
                closes_at: crate::release::unix_ms(closes_at),
                state: ReleaseState::from_word(&state)
                    .ok_or_else(|| Error::unknown_word("release state", &state))?,
                paused: self.paused.unwrap_or(false),
            }),
            _ => None,
        };
        Ok(Slot {
            id: SlotId::from(self.id),
            starts_at: crate::release::unix_ms(self.starts_at),
            ends_at: crate::release::unix_ms(self.ends_at),
            capacity: u32::try_from(self.capacity).unwrap_or(0),
            left: u32::try_from(self.left).unwrap_or(0),
            release,
        })
    }
}

pub(super) const OF_SESSIONS: &str = "
    SELECT s.id, s.starts_at, s.ends_at, s.capacity,
           greatest(least(s.capacity, s.target) - s.booked, 0) AS left,
           r.id AS release_id, r.opens_at, r.closes_at, r.state, r.paused
    FROM slot s
    LEFT JOIN release r ON r.id = s.release_id
    WHERE s.session_id = ANY ($1)
    ORDER BY s.id";

const BEGUN: &str = "
    SELECT id
    FROM slot
    WHERE id = ANY ($1)
      AND starts_at <= from_unix_ms($2)
    ORDER BY id";
