//! What admission must know of a session: its date and place, when its slots begin, and the
//! hospital's limits.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use booking::rules::Limits;
use booking::{DepartmentId, HospitalId, SessionId, SlotId, UnixMs};
use jiff::tz::TimeZone;
use ledger::Ledger;
use ledger::catalogue::session::SessionFacts;
use tokio::sync::{mpsc, oneshot};

use crate::recent::Recent;

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
/// Sessions asked for and not looked up yet, at most: further ones count as not known.
const WAITING_MAX: usize = 20_000;
const SESSIONS_PER_QUERY_MAX: usize = 200;

type Known = Recent<SessionId, Option<Arc<Facts>>>;

/// The facts of sessions, cached. Those that are not known are looked up many at once: at the opening
/// patients ask for places of thousands of sessions within a second.
#[derive(Debug)]
pub struct FactsCache {
    known: Arc<Known>,
    zones: Arc<Recent<SessionId, TimeZone>>,
    questions: mpsc::Sender<Question>,
}

/// A session to be looked up, and whoever waits for it.
#[derive(Debug)]
struct Question {
    session: SessionId,
    asker: Option<oneshot::Sender<Option<Arc<Facts>>>>,
}

impl FactsCache {
    /// Starts knowing nothing, and the task that asks.
    pub fn start(ledger: Ledger) -> Self {
        let known = Arc::new(Recent::new(TTL, SESSIONS_MAX));
        let zones = Arc::new(Recent::new(ZONE_TTL, SESSIONS_MAX));
        let (questions, receiver) = mpsc::channel(WAITING_MAX);
        tokio::spawn(look_up_all(ledger, Arc::clone(&known), receiver));
        Self { known, zones, questions }
    }

    /// Returns what is known at once. A session not known yet is looked up behind the caller's
    /// back: admission never waits for it.
    pub fn peek(&self, session: SessionId) -> Option<Arc<Facts>> {
        if let Some(known) = self.known.get(&session) {
            return known;
        }
        if self.questions.try_send(Question { session, asker: None }).is_ok() {
            // Remembered as unknown meanwhile, so that one look-up serves all who ask.
            self.known.update(&session, |entry| {
                entry.get_or_insert(None);
            });
        }
        None
    }

    /// Returns the facts, looking them up if need be, within `limit`.
    pub async fn find(&self, session: SessionId, limit: Duration) -> Option<Arc<Facts>> {
        if let Some(Some(known)) = self.known.get(&session) {
            return Some(known);
        }
        let (sender, receiver) = oneshot::channel();
        self.questions.try_send(Question { session, asker: Some(sender) }).ok()?;
        tokio::time::timeout(limit, receiver).await.ok()?.ok()?
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

/// Whoever asks while a query runs waits for the next one, and all of them share it.
async fn look_up_all(ledger: Ledger, known: Arc<Known>, mut questions: mpsc::Receiver<Question>) {
    let mut batch = Vec::new();
    while questions.recv_many(&mut batch, SESSIONS_PER_QUERY_MAX).await > 0 {
        // What the query before brought is not asked for again.
        let missing = batch.iter().map(|question| question.session);
        let missing = missing.filter(|session| !matches!(known.get(session), Some(Some(_))));
        let missing: BTreeSet<SessionId> = missing.collect();
        if !missing.is_empty() {
            look_up(&ledger, &known, missing.into_iter().collect()).await;
        }
        for Question { session, asker } in batch.drain(..) {
            if let Some(asker) = asker {
                // Whoever left meanwhile needs no answer.
                let _ = asker.send(known.get(&session).flatten());
            }
        }
    }
}

async fn look_up(ledger: &Ledger, known: &Known, sessions: Vec<SessionId>) {
    match ledger.session_facts(&sessions).await {
        Ok(found) => {
            let mut found: HashMap<SessionId, SessionFacts> = found.into_iter().collect();
            for session in sessions {
                known.put(session, found.remove(&session).map(|facts| Arc::new(read(facts))));
            }
        }
        Err(error) => {
            tracing::debug!(%error, "sessions could not be looked up");
            for session in sessions {
                known.update(&session, |entry| *entry = None);
            }
        }
    }
}

fn read(facts: SessionFacts) -> Facts {
    Facts {
        hospital: facts.hospital,
        department: facts.department,
        day: facts.day,
        limits: facts.limits,
        zone: TimeZone::get(&facts.time_zone).unwrap_or(TimeZone::UTC),
        starts: facts.starts,
    }
}
