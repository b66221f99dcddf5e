//! The role that moves quota: opens, tops up, freezes and closes epochs.
//!
//! One [`Director`] asks PostgreSQL what there is and whether this process leads; one
//! [`PartitionReconciler`] per partition takes the steps, so that no partition waits for another, and
//! two tasks move releases on with time, so that nobody waits for their slots.
//! The lease only saves work: every step is a compare-and-set or cumulative, so two reconcilers,
//! or one that died between any two steps, do no harm.

mod close;
mod freeze;
mod looks;
mod moves;
mod partition;
mod quota;
mod releases;
mod renew;
mod repair;
mod windows;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger::epoch::{EpochRow, ReleaseWindow};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::fault::Fault;
use crate::{Servers, Settings, audit, pause};

pub use moves::{Move, what_next};
pub use partition::{Current, PartitionReconciler};

/// How long the lead lasts without a sign of life, and how often it is renewed: a dead leader is
/// replaced well within the five seconds in which admission must be back.
const LEAD_TTL_MS: u32 = 3000;
const LEAD_EVERY: Duration = Duration::from_secs(1);
/// How often releases are moved on with time, and their windows read.
const RELEASES_EVERY: Duration = Duration::from_secs(1);

/// Why a step was not finished. It is taken again in the next round.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL did not answer as it should.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// Redis did not answer as it should.
    #[error(transparent)]
    Inventory(#[from] inventory::Error),
    /// The ledger in Redis is of a later epoch than PostgreSQL knows: PostgreSQL was set back.
    #[error("Redis is ahead of PostgreSQL: was an older database put in its place?")]
    Ahead,
}

/// What PostgreSQL said at the start of a round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Every unclosed epoch and each partition's latest.
    pub epochs: Vec<EpochRow>,
    /// The windows of the releases that matter now.
    pub windows: Vec<ReleaseWindow>,
}

/// Whether this process leads, with what there is to do if it does.
pub(crate) type Rounds = watch::Receiver<Option<Arc<Round>>>;

/// Starts the rounds of a reconciler.
#[derive(Debug)]
pub struct Director {
    servers: Servers,
    holder: String,
    leads_until: Option<Instant>,
    renew_at: Instant,
    windows_at: Instant,
    windows: Vec<ReleaseWindow>,
}

impl Director {
    /// Directs under the name `holder`, of which there must be one.
    pub fn new(servers: &Servers, holder: String) -> Self {
        let now = Instant::now();
        Self {
            servers: servers.clone(),
            holder,
            leads_until: None,
            renew_at: now,
            windows_at: now,
            windows: Vec::new(),
        }
    }

    /// Asks what there is; `None` while another process leads.
    pub async fn step(&mut self) -> Result<Option<Round>, Error> {
        if !self.leads().await? {
            return Ok(None);
        }
        let ledger = &self.servers.ledger;
        if Instant::now() >= self.windows_at {
            self.windows = ledger.windows().await?;
            self.windows_at = Instant::now() + RELEASES_EVERY;
        }
        Ok(Some(Round { epochs: ledger.epochs().await?, windows: self.windows.clone() }))
    }

    async fn leads(&mut self) -> Result<bool, Error> {
        let now = Instant::now();
        if now >= self.renew_at {
            self.renew_at = now + LEAD_EVERY;
            let leads = self.servers.ledger.lead_reconciler(&self.holder, LEAD_TTL_MS).await?;
            if leads != self.leads_until.is_some() {
                tracing::info!(leads, "the lead of the reconcilers changed");
            }
            let ttl = Duration::from_millis(LEAD_TTL_MS.into());
            self.leads_until = leads.then(|| now + ttl);
        }
        Ok(self.leads_until.is_some_and(|until| now < until))
    }
}

/// Starts the director, the partitions' reconcilers and the audit.
pub(crate) fn spawn(
    servers: &Servers,
    settings: &Settings,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) {
    let (tell, rounds) = watch::channel(None);
    let holder = format!("{}-{:016x}", std::process::id(), rand::random::<u64>());
    let lead_ms = i64::from(settings.preheat_lead_seconds) * 1000;
    let director = Director::new(servers, holder);
    let interval = Duration::from_millis(settings.reconcile_interval_ms);
    tasks.spawn(direct(director, tell, interval, shutdown.clone()));
    let ledger = &servers.ledger;
    tasks.spawn(releases::preheat(ledger.clone(), lead_ms, rounds.clone(), shutdown.clone()));
    tasks.spawn(releases::end(ledger.clone(), rounds.clone(), shutdown.clone()));
    for partition in servers.partitions().all() {
        let reconciler = PartitionReconciler::new(servers, partition).paced();
        tasks.spawn(follow(reconciler, rounds.clone(), shutdown.clone()));
    }
    let every = Duration::from_secs(settings.audit_interval_seconds);
    let share = settings.audit_share_percent;
    tasks.spawn(audit::run(servers.clone(), rounds, every, share, shutdown.clone()));
}

async fn direct(
    mut director: Director,
    tell: watch::Sender<Option<Arc<Round>>>,
    interval: Duration,
    shutdown: CancellationToken,
) {
    let mut fault = Fault::of("directing the reconciler");
    loop {
        // Without PostgreSQL there is no round, and nothing is forgotten.
        if let Some(round) = fault.note(director.step().await) {
            metrics::gauge!("slotrush_reconciler_leads").set(u8::from(round.is_some()));
            tell.send_replace(round.map(Arc::new));
        }
        if !pause(&shutdown, interval).await {
            break;
        }
    }
}

async fn follow(
    mut reconciler: PartitionReconciler,
    mut rounds: Rounds,
    shutdown: CancellationToken,
) {
    let mut fault = Fault::of(format!("reconciling partition {}", reconciler.partition()));
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            changed = rounds.changed() => if changed.is_err() { break },
        }
        let round = rounds.borrow_and_update().clone();
        match round {
            Some(round) => drop(fault.note(reconciler.tick(&round).await)),
            None => reconciler.forget(),
        }
    }
}
