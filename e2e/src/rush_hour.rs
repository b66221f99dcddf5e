//! A crowd that rushes while a test does something to the system.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rush::client::Client;
use rush::history::Recorder;
use rush::patient::{Ending, Patient, Waiting};
use rush::progress::Counters;
use rush::schedule::Visit;
use rush::tally::Tally;
use testkit::{eventually, unique};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::person::Events;
use crate::{SOON, System};

/// Keep-alive connections that ask for bookings; as many again wait for answers.
const CONNECTIONS: usize = 64;
/// How long one request may take. Longer than a long-poll.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(25);
/// When the last patient gives up: longer than L1 allows.
const PATIENCE: Duration = Duration::from_mins(1);

/// How a crowd behaves.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Within what time all come, evenly.
    pub within_ms: u32,
    /// Everybody clicks twice at once, with one key.
    pub double_clicks: bool,
    /// Everybody sends the same request again after the answer.
    pub repeats: bool,
    /// Which gateway they go to.
    pub gateway: usize,
}

impl Default for Manner {
    fn default() -> Self {
        Self { within_ms: 1_000, double_clicks: false, repeats: false, gateway: 0 }
    }
}

/// A crowd on its way.
#[derive(Debug)]
pub struct Rush {
    waiting: Arc<Waiting>,
    patients: JoinSet<Ending>,
    events: Events,
}

impl System {
    /// Lets some of the patients rush. Each tries every slot before giving up; some ask again
    /// under another key, or for a neighbouring slot, though they have a place.
    pub fn rush(&self, who: Range<usize>, manner: Manner) -> Result<Rush> {
        let url = self.gateway_url(manner.gateway)?;
        let client = || Client::new(&url, CONNECTIONS, REQUEST_TIMEOUT);
        let opening = Instant::now();
        let waiting = Arc::new(Waiting {
            bookings: client()?,
            polls: client()?,
            plan: self.plan.clone(),
            run: unique(),
            recorder: Recorder::default(),
            tally: Tally::default(),
            counters: Counters::default(),
            opening,
            deadline: opening + PATIENCE,
        });
        let mut patients = JoinSet::new();
        let count = who.len();
        for (nth, index) in who.enumerate() {
            let member = *self.members.get(index).context("so many patients there are not")?;
            let visit = Visit {
                arrives_ms: i64::try_from(nth * manner.within_ms as usize / count)?,
                first_slot: nth % self.plan.offers.len(),
                double_clicks: manner.double_clicks,
                repeats: manner.repeats,
                renews_key: nth % 5 == 1,
                tries_neighbour: nth % 5 == 2,
                is_determined: true,
                address: Ipv4Addr::from(0x0a00_0001 + u32::try_from(index)?),
            };
            let authorization = self.minter.mint(member)?;
            let waiting = Arc::clone(&waiting);
            let patient = Patient { id: member.patient, authorization, visit, waiting };
            patients.spawn(patient.visit());
        }
        Ok(Rush { waiting, patients, events: self.events.clone() })
    }
}

/// How many come first; there are places for all of them.
const FIRST: usize = 20;

impl System {
    /// Lets a few of the patients rush, and when some have a place all the others; returns when the
    /// first of these are answered: the middle of it, however fast or slow the machine is.
    pub async fn rush_halfway(&self, patients: usize, manner: Manner) -> Result<[Rush; 2]> {
        let first = self.rush(0..FIRST, Manner { within_ms: 0, ..manner })?;
        first.until_booked(8).await?;
        let others = self.rush(FIRST..patients, manner)?;
        others.until_answered(5).await?;
        ensure!(!others.is_over(), "all were answered before anything could happen to them");
        Ok([first, others])
    }
}

/// Waits until everybody has a final answer or gave up; returns how many ended how.
pub async fn finish_all(rushes: impl IntoIterator<Item = Rush>) -> Result<BTreeMap<String, u64>> {
    let mut all = BTreeMap::new();
    for rush in rushes {
        for (ending, count) in rush.finish().await? {
            *all.entry(ending).or_default() += count;
        }
    }
    Ok(all)
}

impl Rush {
    /// Has everybody got an answer, the first at least?
    pub fn is_over(&self) -> bool {
        self.waiting.counters.answered.load(Ordering::Relaxed) as usize >= self.patients.len()
    }

    /// Waits until so many have a place for certain.
    pub async fn until_booked(&self, count: u32) -> Result<()> {
        let booked = &self.waiting.counters.booked;
        eventually(&format!("{count} booked"), SOON, || async {
            (booked.load(Ordering::Relaxed) >= count).then_some(())
        })
        .await
    }

    /// Waits until so many got a first answer.
    pub async fn until_answered(&self, count: u32) -> Result<()> {
        let answered = &self.waiting.counters.answered;
        eventually(&format!("{count} answered"), SOON, || async {
            (answered.load(Ordering::Relaxed) >= count).then_some(())
        })
        .await
    }

    /// Waits until everybody has a final answer or gave up; returns how many ended how.
    pub async fn finish(mut self) -> Result<BTreeMap<String, u64>> {
        let mut endings = BTreeMap::new();
        while let Some(ended) = self.patients.join_next().await {
            let ending = ended.context("a patient broke")?;
            *endings.entry(ending.outcome()).or_default() += 1;
        }
        self.events.extend(self.waiting.recorder.finish(Vec::new()).events);
        Ok(endings)
    }
}
