//! What admission must know of a session: its date and place, when its slots begin, and the
//! hospital's limits.

use std::sync::Arc;
use std::time::Duration;

use booking::rules::Limits;
use booking::{DepartmentId, HospitalId, SessionId, SlotId, UnixMs};
use jiff::tz::TimeZone;
use ledger::Ledger;
use tokio::sync::Semaphore;

use super::recent::Recent;

/// A session, as admission sees it.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its hospital.
    pub hospital: HospitalId,
    /// Its department.
    pub department: DepartmentId,
    /// Days since 1970-01-01 of its date.
    pub day: i32,
    /// The hospital's limits.
    pub limits: Limits,
    /// The hospital's time zone.
    pub zone: TimeZone,
    /// When its slots begin, by their ordinals.
    pub starts: Vec<UnixMs>,
}

impl Facts {
    /// Tells whether a slot of the session has begun at `now`.
    pub fn has_begun(&self, slot: SlotId, now: UnixMs) -> bool {
        self.starts.get(usize::from(slot.ordinal())).is_some_and(|starts_at| *starts_at <= now)
    }
}

/// Limits and dates change rarely; the database judges them again with the last word.
const TTL: Duration = Duration::from_secs(30);
const SESSIONS_MAX: usize = 20_000;
/// A hospital does not move: its zone is known while PostgreSQL is away for an hour or two.
const ZONE_TTL: Duration = Duration::from_hours(1);
const LOOK_UPS_MAX: usize = 8;

/// The facts of sessions, cached.
#[derive(Debug)]
pub struct FactsCache {
    ledger: Ledger,
    known: Arc<Recent<SessionId, Option<Arc<Facts>>>>,
    zones: Arc<Recent<SessionId, TimeZone>>,
    look_ups: Arc<Semaphore>,
}

impl FactsCache {
    /// Starts knowing nothing.
    pub fn new(ledger: Ledger) -> Self {
        let known = Arc::new(Recent::new(TTL, SESSIONS_MAX));
        let zones = Arc::new(Recent::new(ZONE_TTL, SESSIONS_MAX));
        Self { ledger, known, zones, look_ups: Arc::new(Semaphore::new(LOOK_UPS_MAX)) }
    }

    /// Returns what is known at once. A session not known yet is looked up behind the caller's
    /// back: admission never waits for it.
    pub fn peek(&self, session: SessionId) -> Option<Arc<Facts>> {
        if let Some(known) = self.known.get(&session) {
            return known;
        }
        if let Ok(turn) = Arc::clone(&self.look_ups).try_acquire_owned() {
            // Remembered as unknown meanwhile, so that one look-up serves all who ask.
            self.known.put(session, None);
            let (ledger, known) = (self.ledger.clone(), Arc::clone(&self.known));
            tokio::spawn(async move {
                let _turn = turn;
                look_up(&ledger, &known, session).await;
            });
        }
        None
    }

    /// Returns the facts, looking them up if need be, within `limit`.
    pub async fn find(&self, session: SessionId, limit: Duration) -> Option<Arc<Facts>> {
        if let Some(Some(known)) = self.known.get(&session) {
            return Some(known);
        }
        let (ledger, known) = (self.ledger.clone(), Arc::clone(&self.known));
        let turns = Arc::clone(&self.look_ups);
        // In a task: a wait that ends must not cancel the query. Those who wait for a turn mostly
        // find what the ones before them looked up.
        let asked = tokio::spawn(async move {
            let _turn = tokio::time::timeout(limit, turns.acquire_owned()).await.ok()?.ok()?;
            match known.get(&session) {
                Some(Some(known)) => Some(known),
                Some(None) | None => look_up(&ledger, &known, session).await,
            }
        });
        tokio::time::timeout(limit, asked).await.ok()?.ok()?
    }

    /// Returns the time zone of the session's hospital, looking it up if need be, within `limit`.
    pub async fn zone(&self, session: SessionId, limit: Duration) -> Option<TimeZone> {
        if let Some(zone) = self.zones.get(&session) {
            return Some(zone);
        }
        let zone = self.find(session, limit).await?.zone.clone();
        self.zones.put(session, zone.clone());
        Some(zone)
    }
}

async fn look_up(
    ledger: &Ledger,
    known: &Recent<SessionId, Option<Arc<Facts>>>,
    session: SessionId,
) -> Option<Arc<Facts>> {
    match ledger.session_facts(session).await {
        Ok(facts) => {
            let facts = facts.map(|facts| {
                let zone = TimeZone::get(&facts.time_zone).unwrap_or(TimeZone::UTC);
                Arc::new(Facts {
                    hospital: facts.hospital,
                    department: facts.department,
                    day: facts.day,
                    limits: facts.limits,
                    zone,
                    starts: facts.starts,
                })
            });
            known.put(session, facts.clone());
            facts
        }
        Err(error) => {
            tracing::debug!(%error, "a session could not be looked up");
            known.update(&session, |entry| *entry = None);
            None
        }
    }
}
