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
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};

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

/// What never changes is kept through a whole rush. Of sessions on offer it is read again at half that
/// time, so that it is known for half an hour at least while PostgreSQL is away.
const TTL: Duration = Duration::from_hours(1);
const READ_AGAIN_AFTER: Duration = Duration::from_mins(30);
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
/// How long a release is left alone after a fault, at most; the first time for one look.
const LEFT_ALONE_MAX: Duration = Duration::from_mins(5);

/// The facts of sessions, cached. Those on offer are read before the opening; others that are not known are
/// looked up many at once, as patients ask for them.
#[derive(Debug)]
pub struct FactsCache {
    known: Arc<Known>,
    questions: mpsc::Sender<Question>,
}

#[derive(Debug)]
struct Known {
    sessions: Recent<SessionId, Arc<Facts>>,
    /// Those asked for by the way.
    asked: Recent<SessionId, ()>,
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
        // Each of its shards forgets by itself when it is full: with room for twice as many none does early.
        let sessions = Recent::new(TTL, 2 * SESSIONS_MAX);
        let asked = Recent::new(ASKED_TTL, SESSIONS_MAX);
        let known = Arc::new(Known { sessions, asked, limits: Mutex::default() });
        let (questions, receiver) = mpsc::channel(WAITING_MAX);
        tokio::spawn(look_up_all(ledger.clone(), Arc::clone(&known), receiver));
        tokio::spawn(read_limits(ledger.clone(), Arc::downgrade(&known)));
        tokio::spawn(look_ahead(ledger, clock, Arc::downgrade(&known)));
        Self { known, questions }
    }

    /// Returns what is known at once. A session not known yet is looked up behind the caller's
    /// back: admission never waits for it.
    pub fn peek(&self, session: SessionId) -> Option<Arc<Facts>> {
        let known = self.known.sessions.get(&session);
        if known.is_none()
            && !self.known.asked.has(&session)
            && self.questions.try_send(Question { session, asker: None }).is_ok()
        {
            // One look-up serves all who ask.
            self.known.asked.put(session, ());
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
        let sessions = || batch.iter().map(|question| question.session);
        let missing = sessions().filter(|session| !known.sessions.has(session)).collect();
        if let Err(error) = known.look_up(&ledger, missing).await {
            tracing::debug!(%error, "sessions could not be looked up");
            sessions().for_each(|session| known.asked.forget(&session));
        }
        for Question { session, asker } in batch.drain(..) {
            if let Some(asker) = asker {
                // Whoever left meanwhile needs no answer.
                let _ = asker.send(known.sessions.get(&session));
            }
        }
    }
}

/// Reads the limits of hospitals again and again. Ends with the cache.
async fn read_limits(ledger: Ledger, known: Weak<Known>) {
    let mut ticks = looks();
    loop {
        ticks.tick().await;
        let Some(known) = known.upgrade() else { return };
        if let Err(error) = known.read_limits(&ledger).await {
            tracing::debug!(%error, "the limits of hospitals are not read again yet");
        }
    }
}

/// Reads what will be asked for: the sessions of each release that is preheated. Ends with the cache.
async fn look_ahead(ledger: Ledger, clock: Arc<dyn Clock>, known: Weak<Known>) {
    let mut releases = HashMap::<ReleaseId, Reading>::new();
    let mut ticks = looks();
    loop {
        ticks.tick().await;
        let Some(known) = known.upgrade() else { return };
        let windows = match ledger.windows().await {
            Ok(windows) => windows,
            Err(error) => {
                tracing::debug!(%error, "releases could not be looked up");
                continue;
            }
        };
        releases.retain(|release, _| windows.iter().any(|window| window.release == *release));
        for window in windows.iter().filter(|window| window.closes_at > clock.now()) {
            let reading = releases.entry(window.release).or_default();
            if reading.due.is_none_or(|due| due <= Instant::now()) {
                let read = known.read_release(&ledger, window.release).await;
                reading.note(window.release, read);
            }
        }
    }
}

fn looks() -> Interval {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

/// When a release is to be read again.
#[derive(Debug, Default)]
struct Reading {
    due: Option<Instant>,
    faults: u32,
}

impl Reading {
    fn note(&mut self, release_id: ReleaseId, read: Result<usize, ledger::Error>) {
        let due_in = match read {
            Ok(sessions) => {
                tracing::debug!(%release_id, sessions, "sessions on offer are known");
                self.faults = 0;
                READ_AGAIN_AFTER
            }
            Err(error) => {
                // Without them patients are served all the same, only less quickly.
                tracing::warn!(%release_id, %error, "sessions on offer are not known yet");
                self.faults += 1;
                LEFT_ALONE_MAX.min(LOOK_EVERY * 2_u32.saturating_pow(self.faults - 1))
            }
        };
        self.due = Some(Instant::now() + due_in);
    }
}

impl Known {
    async fn look_up(
        &self,
        ledger: &Ledger,
        sessions: BTreeSet<SessionId>,
    ) -> Result<(), ledger::Error> {
        if sessions.is_empty() {
            return Ok(());
        }
        let sessions: Vec<_> = sessions.into_iter().collect();
        for (session, facts) in ledger.session_facts(&sessions).await? {
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

    /// Reads the sessions of a release, but for those read lately; returns how many it has.
    async fn read_release(
        &self,
        ledger: &Ledger,
        release: ReleaseId,
    ) -> Result<usize, ledger::Error> {
        let sessions = ledger.sessions_of_release(release, SESSIONS_MAX).await?;
        let old = sessions.iter().filter(|session| self.sessions.get_younger(session).is_none());
        let old: Vec<SessionId> = old.copied().collect();
        for some in old.chunks(SESSIONS_PER_QUERY_MAX) {
            self.look_up(ledger, some.iter().copied().collect()).await?;
            sleep(PAUSE).await;
        }
        Ok(sessions.len())
    }

    fn limits(&self) -> MutexGuard<'_, HashMap<HospitalId, Arc<LastRead>>> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
