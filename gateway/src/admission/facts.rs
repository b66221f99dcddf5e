//! What admission must know of a session: its date and place, when its slots begin, and the
//! hospital's limits.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use booking::rules::Limits;
use booking::{Clock, DepartmentId, HospitalId, ReleaseId, SessionId, SlotId, UnixMs};
use jiff::tz::TimeZone;
use ledger::Ledger;
use ledger::catalogue::session::SessionFacts;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::recent::Recent;

/// A session, as admission sees it. Nothing of it ever changes but the limits.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its hospital.
    pub hospital: HospitalId,
    /// Its department.
    pub department: DepartmentId,
    /// Days since 1970-01-01 of its date.
    pub day: i32,
    /// The hospital's limits, as last read.
    pub limits: Arc<LastRead>,
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

/// The limits of a hospital, shared by its sessions.
#[derive(Debug, Default)]
pub struct LastRead(Mutex<Limits>);

impl LastRead {
    /// Returns them.
    pub fn get(&self) -> Limits {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, limits: Limits) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = limits;
    }
}

impl From<Limits> for LastRead {
    fn from(limits: Limits) -> Self {
        Self(Mutex::new(limits))
    }
}

/// What never changes is kept through a whole rush, and while PostgreSQL is away for an hour or two.
const TTL: Duration = Duration::from_hours(1);
const SESSIONS_MAX: usize = 100_000;
/// How long a session that was asked for, and is not there, is not asked for again by the way.
const ASKED_TTL: Duration = Duration::from_secs(30);
/// Sessions asked for and not looked up yet, at most: further ones count as not known.
const WAITING_MAX: usize = 20_000;
const SESSIONS_PER_QUERY_MAX: usize = 200;
/// How often the limits of hospitals are read again, and releases looked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Between two questions for sessions of a release: nobody waits for them yet.
const PAUSE: Duration = Duration::from_millis(20);
/// How often the sessions of a release are asked for, if PostgreSQL does not tell them in time.
const TRIES: u32 = 3;

/// The facts of sessions, cached. Those on offer are read before the opening; others that are not known are
/// looked up many at once, as patients ask for them.
#[derive(Debug)]
pub struct FactsCache {
    known: Arc<Known>,
    asked: Recent<SessionId, ()>,
    questions: mpsc::Sender<Question>,
}

#[derive(Debug)]
struct Known {
    sessions: Recent<SessionId, Arc<Facts>>,
    /// Of hospitals with sessions that are known, and no others for longer than one look.
    limits: Mutex<HashMap<HospitalId, Arc<LastRead>>>,
}

/// A session to be looked up, and whoever waits for it.
#[derive(Debug)]
struct Question {
    session: SessionId,
    asker: Option<oneshot::Sender<Option<Arc<Facts>>>>,
}

impl FactsCache {
    /// Starts knowing nothing, and the tasks that ask.
    pub fn start(ledger: Ledger, clock: Arc<dyn Clock>) -> Self {
        let sessions = Recent::new(TTL, SESSIONS_MAX);
        let known = Arc::new(Known { sessions, limits: Mutex::default() });
        let (questions, receiver) = mpsc::channel(WAITING_MAX);
        tokio::spawn(look_up_all(ledger.clone(), Arc::clone(&known), receiver));
        tokio::spawn(look_ahead(ledger, clock, Arc::downgrade(&known)));
        Self { known, asked: Recent::new(ASKED_TTL, SESSIONS_MAX), questions }
    }

    /// Returns what is known at once. A session not known yet is looked up behind the caller's
    /// back: admission never waits for it.
    pub fn peek(&self, session: SessionId) -> Option<Arc<Facts>> {
        let known = self.known.sessions.get(&session);
        if known.is_none()
            && !self.asked.has(&session)
            && self.questions.try_send(Question { session, asker: None }).is_ok()
        {
            // One look-up serves all who ask.
            self.asked.put(session, ());
        }
        known
    }

    /// Tells whether the facts are known, and asks nobody.
    pub fn knows(&self, session: SessionId) -> bool {
        self.known.sessions.has(&session)
    }

    /// Returns the facts, looking them up if need be, within `limit`.
    pub async fn find(&self, session: SessionId, limit: Duration) -> Option<Arc<Facts>> {
        if let Some(known) = self.known.sessions.get(&session) {
            return Some(known);
        }
        let (sender, receiver) = oneshot::channel();
        self.questions.try_send(Question { session, asker: Some(sender) }).ok()?;
        tokio::time::timeout(limit, receiver).await.ok()?.ok()?
    }

    /// Returns the time zone of the session's hospital, looking it up if need be, within `limit`.
    pub async fn zone(&self, session: SessionId, limit: Duration) -> Option<TimeZone> {
        Some(self.find(session, limit).await?.zone.clone())
    }
}

/// Whoever asks while a query runs waits for the next one, and all of them share it.
async fn look_up_all(ledger: Ledger, known: Arc<Known>, mut questions: mpsc::Receiver<Question>) {
    let mut batch = Vec::new();
    while questions.recv_many(&mut batch, SESSIONS_PER_QUERY_MAX).await > 0 {
        // A fault is told there: whoever waits hears that nothing is known, and may ask again.
        let _ = known.look_up(&ledger, batch.iter().map(|question| question.session)).await;
        for Question { session, asker } in batch.drain(..) {
            if let Some(asker) = asker {
                // Whoever left meanwhile needs no answer.
                let _ = asker.send(known.sessions.get(&session));
            }
        }
    }
}

/// Reads what will be asked for: the sessions of each release that is preheated, once, and the limits of
/// hospitals again and again. Ends with the cache.
async fn look_ahead(ledger: Ledger, clock: Arc<dyn Clock>, known: Weak<Known>) {
    let mut read = HashMap::new();
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(known) = known.upgrade() else { return };
        let looked = async {
            known.read_limits(&ledger).await?;
            known.read_releases(&ledger, clock.now(), &mut read).await
        };
        if let Err(error) = looked.await {
            tracing::debug!(%error, "sessions on offer are not looked up beforehand yet");
        }
    }
}

impl Known {
    /// Looks up the sessions that are not known.
    async fn look_up(
        &self,
        ledger: &Ledger,
        sessions: impl Iterator<Item = SessionId>,
    ) -> Result<(), ledger::Error> {
        let missing: BTreeSet<_> = sessions.filter(|id| !self.sessions.has(id)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let missing: Vec<_> = missing.into_iter().collect();
        let found = ledger.session_facts(&missing).await.inspect_err(|error| {
            tracing::debug!(%error, "sessions could not be looked up");
        })?;
        for (session, facts) in found {
            self.sessions.put(session, Arc::new(self.read(facts)));
        }
        Ok(())
    }

    fn read(&self, facts: SessionFacts) -> Facts {
        let SessionFacts { hospital, department, day, limits: read, time_zone, starts, .. } = facts;
        let limits = Arc::clone(self.limits().entry(hospital).or_default());
        limits.set(read);
        let zone = TimeZone::get(&time_zone).unwrap_or(TimeZone::UTC);
        Facts { hospital, department, day, limits, zone, starts }
    }

    /// Reads the limits of the hospitals whose sessions are known.
    async fn read_limits(&self, ledger: &Ledger) -> Result<(), ledger::Error> {
        let hospitals: Vec<_> = {
            let mut limits = self.limits();
            limits.retain(|_, limits| Arc::strong_count(limits) > 1);
            limits.keys().copied().collect()
        };
        if hospitals.is_empty() {
            return Ok(());
        }
        for (hospital, read) in ledger.limits_of(&hospitals).await? {
            if let Some(limits) = self.limits().get(&hospital) {
                limits.set(read);
            }
        }
        Ok(())
    }

    /// Reads the sessions of releases that patients can book of, or soon can. `read` tells how often each
    /// was begun.
    async fn read_releases(
        &self,
        ledger: &Ledger,
        now: UnixMs,
        read: &mut HashMap<ReleaseId, u32>,
    ) -> Result<(), ledger::Error> {
        let windows = ledger.windows().await?;
        read.retain(|release, _| windows.iter().any(|window| window.release == *release));
        for window in windows.iter().filter(|window| window.closes_at > now) {
            let tries = read.entry(window.release).or_default();
            if *tries >= TRIES {
                continue;
            }
            *tries += 1;
            let sessions = ledger.sessions_of_release(window.release, SESSIONS_MAX).await?;
            let (began, count) = (Instant::now(), sessions.len());
            for sessions in sessions.chunks(SESSIONS_PER_QUERY_MAX) {
                self.look_up(ledger, sessions.iter().copied()).await?;
                sleep(PAUSE).await;
            }
            *tries = TRIES;
            let seconds = began.elapsed().as_secs_f64();
            tracing::debug!(release_id = %window.release, count, seconds, "sessions looked up");
        }
        Ok(())
    }

    fn limits(&self) -> MutexGuard<'_, HashMap<HospitalId, Arc<LastRead>>> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
