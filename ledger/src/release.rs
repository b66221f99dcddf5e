//! Releases: a batch of slots that goes on offer together, and its changes of state.

use booking::{AccountId, HospitalId, ReleaseId, SlotId, UnixMs};

use crate::{Error, Ledger};

/// A release's stored state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseState {
    /// Nothing set aside yet.
    Planned,
    /// Its places are set aside for sale.
    Preheated,
    /// Ended by an admin or its time.
    Closed,
}

impl ReleaseState {
    /// Returns the stored word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Preheated => "preheated",
            Self::Closed => "closed",
        }
    }

    /// Reads the stored word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Planned, Self::Preheated, Self::Closed]
            .into_iter()
            .find(|state| state.as_str() == word)
    }
}

/// What a release is at some moment, as shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseWord {
    /// Not set aside yet.
    Planned,
    /// Set aside, opens later.
    Preheated,
    /// Bookings are taken.
    Open,
    /// Held up by an admin.
    Paused,
    /// Over.
    Closed,
}

impl ReleaseWord {
    /// Judges a release at `now`.
    pub fn of(
        state: ReleaseState,
        is_paused: bool,
        opens_at: UnixMs,
        closes_at: UnixMs,
        now: UnixMs,
    ) -> Self {
        match state {
            ReleaseState::Closed => Self::Closed,
            _ if now >= closes_at => Self::Closed,
            _ if is_paused => Self::Paused,
            ReleaseState::Planned => Self::Planned,
            ReleaseState::Preheated if now < opens_at => Self::Preheated,
            ReleaseState::Preheated => Self::Open,
        }
    }

    /// Returns the word shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Preheated => "preheated",
            Self::Open => "open",
            Self::Paused => "paused",
            Self::Closed => "closed",
        }
    }
}

/// What an admin does to a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseVerb {
    /// Sets its places aside for sale.
    Preheat,
    /// Holds it up.
    Pause,
    /// Lets it go on.
    Resume,
    /// Ends it.
    Close,
}

impl ReleaseVerb {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Preheat => "preheat",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Close => "close",
        }
    }
}

/// A release to be made.
#[derive(Clone, Debug)]
pub struct NewRelease {
    /// The hospital all its slots belong to.
    pub hospital: HospitalId,
    /// Its name.
    pub name: String,
    /// First instant of booking.
    pub opens_at: UnixMs,
    /// First instant after.
    pub closes_at: UnixMs,
    /// Its slots.
    pub slots: Vec<SlotId>,
}

/// The outcome of making a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseCreated {
    /// Made.
    Done(ReleaseId),
    /// There is no such hospital.
    NoHospital,
    /// There is no such slot in this hospital, or its session was called off.
    NoSlot(SlotId),
    /// The slot is in another release that is not closed.
    SlotTaken(SlotId),
}

/// The outcome of changing a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseChanged {
    /// It is now so, or was before.
    Done,
    /// There is no such release.
    NoRelease,
    /// Its state does not allow it: it is closed, or its time is over.
    WrongState,
}

/// Places and bookings of a release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReleaseCounts {
    /// Its slots.
    pub slots: u64,
    /// Places there are.
    pub capacity: u64,
    /// Live appointments.
    pub booked: u64,
    /// Places set aside for Redis to sell, and sold there but not persisted yet.
    pub escrowed: u64,
    /// Places that may be set aside now.
    pub free: u64,
    /// Rejected bookings of its slots.
    pub rejected: u64,
    /// Cancelled bookings of its slots.
    pub cancelled: u64,
}

/// A release, as shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its id.
    pub id: ReleaseId,
    /// The hospital.
    pub hospital: HospitalId,
    /// IANA name of the hospital's time zone.
    pub time_zone: String,
    /// Its name.
    pub name: String,
    /// First instant of booking.
    pub opens_at: UnixMs,
    /// First instant after.
    pub closes_at: UnixMs,
    /// Its stored state.
    pub state: ReleaseState,
    /// Held up by an admin.
    pub paused: bool,
    /// Counts changes.
    pub version: u64,
    /// Its places and bookings.
    pub counts: ReleaseCounts,
}

impl Release {
    /// Returns the word for what the release is at `now`.
    pub fn word(&self, now: UnixMs) -> ReleaseWord {
        ReleaseWord::of(self.state, self.paused, self.opens_at, self.closes_at, now)
    }
}

impl Ledger {
    /// Makes a release of these slots. All or nothing.
    pub async fn create_release(
        &self,
        actor: AccountId,
        new: NewRelease,
    ) -> Result<ReleaseCreated, Error> {
        let slots: Vec<i64> = new.slots.iter().map(|slot| slot.get()).collect();
        let (outcome, release, slot): (String, Option<i64>, Option<i64>) = self
            .run_again(move |pool| {
                let (new, slots) = (new.clone(), slots.clone());
                async move {
                    sqlx::query_as("SELECT * FROM release_create($1, $2, $3, $4, $5, $6)")
                        .bind(actor.get())
                        .bind(new.hospital.get())
                        .bind(new.name)
                        .bind(timestamp(new.opens_at))
                        .bind(timestamp(new.closes_at))
                        .bind(slots)
                        .fetch_one(&pool)
                        .await
                }
            })
            .await?;
        match (outcome.as_str(), release, slot) {
            ("done", Some(id), _) => Ok(ReleaseCreated::Done(ReleaseId::from(id))),
            ("no_hospital", ..) => Ok(ReleaseCreated::NoHospital),
            ("no_slot", _, Some(id)) => Ok(ReleaseCreated::NoSlot(SlotId::from(id))),
            ("slot_taken", _, Some(id)) => Ok(ReleaseCreated::SlotTaken(SlotId::from(id))),
            (other, ..) => Err(Error::unknown_word("outcome of a release", other)),
        }
    }

    /// Preheats, pauses, resumes or closes a release. Safe to repeat.
    pub async fn change_release(
        &self,
        actor: AccountId,
        id: ReleaseId,
        verb: ReleaseVerb,
    ) -> Result<ReleaseChanged, Error> {
        let outcome: String = self
            .run_long(move |pool| async move {
                sqlx::query_scalar("SELECT release_change($1, $2, $3)")
                    .bind(actor.get())
                    .bind(id.get())
                    .bind(verb.as_str())
                    .fetch_one(&pool)
                    .await
            })
            .await?;
        match outcome.as_str() {
            "done" => Ok(ReleaseChanged::Done),
            "no_release" => Ok(ReleaseChanged::NoRelease),
            "wrong_state" => Ok(ReleaseChanged::WrongState),
            other => Err(Error::unknown_word("outcome of a change", other)),
        }
    }

    /// Finds a release with its counts.
    pub async fn release(&self, id: ReleaseId) -> Result<Option<Release>, Error> {
        let row: Option<ReleaseRow> = self
            .run(move |pool| async move {
                let id = id.get();
                sqlx::query_as(LIST).bind(id).bind(id).bind(1).fetch_optional(&pool).await
            })
            .await?;
        row.map(ReleaseRow::read).transpose()
    }

    /// Lists releases, latest made first, older than `before`.
    pub async fn releases(
        &self,
        before: Option<ReleaseId>,
        limit: u16,
    ) -> Result<Vec<Release>, Error> {
        let rows: Vec<ReleaseRow> = self
            .run(move |pool| async move {
                sqlx::query_as(LIST)
                    .bind(0_i64)
                    .bind(before.map_or(i64::MAX, |id| id.get() - 1))
                    .bind(i32::from(limit))
                    .fetch_all(&pool)
                    .await
            })
            .await?;
        rows.into_iter().map(ReleaseRow::read).collect()
    }

    /// Returns the slots of a release.
    pub async fn slots_of_release(&self, id: ReleaseId) -> Result<Vec<SlotId>, Error> {
        let ids: Vec<i64> = self
            .run(move |pool| async move {
                sqlx::query_scalar(SLOTS).bind(id.get()).fetch_all(&pool).await
            })
            .await?;
        Ok(ids.into_iter().map(SlotId::from).collect())
    }
}

#[derive(sqlx::FromRow)]
struct ReleaseRow {
    id: i64,
    hospital_id: i64,
    time_zone: String,
    name: String,
    opens_at: jiff_sqlx::Timestamp,
    closes_at: jiff_sqlx::Timestamp,
    state: String,
    paused: bool,
    version: i64,
    slots: i64,
    capacity: i64,
    booked: i64,
    escrowed: i64,
    free: i64,
    rejected: i64,
    cancelled: i64,
}

impl ReleaseRow {
    fn read(self) -> Result<Release, Error> {
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        Ok(Release {
            id: ReleaseId::from(self.id),
            hospital: HospitalId::from(self.hospital_id),
            time_zone: self.time_zone,
            name: self.name,
            opens_at: unix_ms(self.opens_at),
            closes_at: unix_ms(self.closes_at),
            state: ReleaseState::from_word(&self.state)
                .ok_or_else(|| Error::unknown_word("release state", &self.state))?,
            paused: self.paused,
            version: count(self.version),
            counts: ReleaseCounts {
                slots: count(self.slots),
                capacity: count(self.capacity),
                booked: count(self.booked),
                escrowed: count(self.escrowed),
                free: count(self.free),
                rejected: count(self.rejected),
                cancelled: count(self.cancelled),
            },
        })
    }
}

pub(crate) fn unix_ms(at: jiff_sqlx::Timestamp) -> UnixMs {
    UnixMs(at.to_jiff().as_millisecond())
}

pub(crate) fn timestamp(at: UnixMs) -> jiff_sqlx::Timestamp {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().into()
}

const LIST: &str = "
    SELECT r.id, r.hospital_id, hospital.time_zone, r.name, r.opens_at, r.closes_at,
           r.state, r.paused, r.version,
           places.slots, places.capacity, places.booked, places.escrowed, places.free,
           ended.rejected, ended.cancelled
    FROM (
        SELECT *
        FROM release
        WHERE id BETWEEN $1 AND $2
        ORDER BY id DESC
        LIMIT $3
    ) r
    JOIN hospital ON hospital.id = r.hospital_id
    CROSS JOIN LATERAL (
        SELECT count(*) AS slots,
               coalesce(sum(s.capacity), 0)::bigint AS capacity,
               coalesce(sum(s.booked), 0)::bigint AS booked,
               coalesce(sum(s.escrowed), 0)::bigint AS escrowed,
               coalesce(sum(greatest(least(s.capacity, s.target) - s.booked - s.escrowed, 0)), 0)::bigint AS free
        FROM slot s
        WHERE s.release_id = r.id
    ) places
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE b.state = 'rejected') AS rejected,
               count(*) FILTER (WHERE b.state = 'cancelled') AS cancelled
        FROM slot s
        JOIN booking b ON b.slot_id = s.id
        WHERE s.release_id = r.id
          AND b.state <> 'booked'
    ) ended
    ORDER BY r.id DESC";

const SLOTS: &str = "
    SELECT id
    FROM slot
    WHERE release_id = $1
    ORDER BY id";
