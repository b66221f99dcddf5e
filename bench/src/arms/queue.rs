//! How often patients in a queue ask until they read the end of their booking (G2): as the gateway
//! directs them, beside every second.
//!
//! The queue is long because the worker is held to a pace: it is stopped, and runs for a few milliseconds
//! whenever it is behind that.
//! Both kinds of patients book among the crowd that fills the queue, and stand in the same one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use booking::{Clock as _, SlotId, SystemClock};
use bytes::Bytes;
use e2e::system::url_of;
use hyper::Method;
use jiff::Timestamp;
use rush::client::{Client, Reply, Sent};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::{CONNECTIONS, DRAIN_MAX, Rig, local};
use crate::latency::Latency;
use crate::load::closed;
use crate::world::{Bookings, Crowd};

/// Bookings of the crowd, and how many the worker persists in a second: about 18 s of waiting for the last.
const CROWD: usize = 18_000;
const PERSISTED_PER_S: f64 = 1_000.0;
/// How long the crowd may take to come.
const FILL_MAX: Duration = Duration::from_secs(15);
/// How often the worker's pace is looked at, and how long it runs if it is behind.
const LOOK_EVERY: Duration = Duration::from_millis(15);
const RUNS_FOR: Duration = Duration::from_millis(5);
/// Patients who poll, of each kind.
const PATIENTS: usize = 200;
/// How long one request may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long the last may take to read the end.
const FOLLOW_MAX: Duration = Duration::from_mins(2);

/// When a patient asks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// After as many seconds as the last answer said.
    Directed,
    /// Every second.
    EachSecond,
}

/// What it took to read the end.
#[derive(Debug, Default)]
struct Followed {
    patients: u32,
    polls: u32,
    /// From the row to its being read.
    late: Latency,
}

impl Followed {
    fn polls_each(&self) -> f64 {
        f64::from(self.polls) / f64::from(self.patients.max(1))
    }
}

impl Rig<'_> {
    /// Plays a queue for every second round of the others: it takes twenty seconds.
    pub(super) async fn queue(&mut self) -> Result<()> {
        for cycle in 0..self.pace.cycles.div_ceil(2) {
            (self.say)(&format!("queue, round {}: directed and each second", cycle + 1));
            self.queued().await?;
        }
        Ok(())
    }

    async fn queued(&mut self) -> Result<()> {
        let offer = self.hot_slot().await?;
        let (slot, after) = (offer.slots[0], self.newest().await?);
        let crowd = Bookings::new(&self.world.crowd, "/v1/bookings", &offer.slots, 1, 0);
        let plan = closed::Plan {
            address: local(self.world.port),
            connections: CONNECTIONS,
            warm_up: Duration::ZERO,
            duration: FILL_MAX,
            drain: DRAIN_MAX,
        };
        let crowd = crowd.only(CROWD);
        let (tell, held) = watch::channel(0);
        let everybody = async {
            let crowd = async { anyhow::Ok(closed::run(plan, crowd).await?) };
            tokio::try_join!(crowd, self.patients(slot, &held))
        };
        let ended = tokio::select! {
            ended = everybody => ended,
            failed = self.keep_pace(slot, tell) => Err(failed),
        };
        self.world.worker.resume();
        let ((report, work), [directed, each_second]) = ended?;
        let all = report.all();
        ensure!(all.accepted == CROWD as u64, "{all:?}: {}", work.complaint());
        let patients = u64::from(directed.patients + each_second.patients);
        self.balanced(after, all.accepted + patients).await?;
        for (name, followed) in [("directed", &directed), ("each second", &each_second)] {
            let late = followed.late.percentiles();
            (self.say)(&format!(
                "{name}: {:.2} polls for each of {} bookings, read {:.0} ms after the row (p50), {:.0} ms (p99)",
                followed.polls_each(),
                followed.patients,
                late.p50_ms,
                late.p99_ms,
            ));
        }
        self.results.note("polls_directed", directed.polls_each());
        self.results.note("polls_each_second", each_second.polls_each());
        self.results.note("read_late_directed_ms", directed.late.percentiles().p50_ms);
        self.results.note("read_late_each_second_ms", each_second.late.percentiles().p50_ms);
        Ok(())
    }

    /// Lets the worker run only when it is behind, and tells how many have a place, until this is dropped.
    /// Returns only if that fails.
    ///
    /// Rows are counted, not what is settled: on a slow machine the worker persists several batches in the
    /// moments it needs to settle one.
    async fn keep_pace(&self, slot: SlotId, held: watch::Sender<u64>) -> anyhow::Error {
        let partition = self.world.probe.partitions().of_slot(slot);
        let (began, mut first) = (Instant::now(), None);
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let seen = async {
                let ledger = self.world.probe.inventory().inspect(partition).await?.ledger;
                let persisted = self.world.persisted_of(slot).await?;
                anyhow::Ok((ledger.map_or(0, |ledger| ledger.held), persisted))
            };
            let (ever, persisted) = match seen.await {
                Ok(seen) => seen,
                Err(error) => return error.context("looking at the queue"),
            };
            held.send_replace(ever - *first.get_or_insert(ever));
            let is_behind = f64::from(persisted) < began.elapsed().as_secs_f64() * PERSISTED_PER_S;
            if is_behind {
                self.world.worker.resume();
                sleep(RUNS_FOR).await;
            }
            self.world.worker.pause();
        }
    }

    /// Lets patients of both kinds book by turns, spread evenly among the crowd, however fast it comes, and
    /// follows them to the end: the directed first.
    async fn patients(&self, slot: SlotId, held: &watch::Receiver<u64>) -> Result<[Followed; 2]> {
        let client = Arc::new(Client::new(&url_of(self.world.port)?, CONNECTIONS, ANSWER_MAX)?);
        client.warm(CONNECTIONS).await;
        let mut patients = JoinSet::new();
        let count = 2 * PATIENTS;
        for nth in 0..count {
            let habit = if nth % 2 == 0 { Habit::Directed } else { Habit::EachSecond };
            // From the end of the crowd, which is larger than those who fill the queue.
            let number = self.world.crowd.len() - 1 - nth;
            let (client, crowd) = (Arc::clone(&client), Arc::clone(&self.world.crowd));
            let (mut held, turn) = (held.clone(), u64::try_from(CROWD * nth / count)?);
            patients.spawn(async move {
                let its_turn = held.wait_for(|held| *held >= turn);
                timeout(FOLLOW_MAX, its_turn).await.context("the crowd did not come")??;
                let (polls, late) = follow(&client, &crowd, number, slot, habit).await?;
                anyhow::Ok((habit, polls, late))
            });
        }
        let mut followed = [Followed::default(), Followed::default()];
        while let Some(ended) = patients.join_next().await {
            let (habit, polls, late) = ended??;
            let kind = &mut followed[usize::from(habit == Habit::EachSecond)];
            kind.patients += 1;
            kind.polls += polls;
            kind.late.record(late);
        }
        Ok(followed)
    }
}

/// Books and asks until the end is read; returns how often, and how long after its row.
async fn follow(
    client: &Client,
    crowd: &Crowd,
    number: usize,
    slot: SlotId,
    habit: Habit,
) -> Result<(u32, Duration)> {
    let (headers, body) = crowd.wish(number, slot)?;
    let reply = reply(client.send(Method::POST, "/v1/bookings", &headers, body).await)?;
    ensure!(reply.status == 202, "a patient heard {}: {:?}", reply.status, reply.body);
    let view: serde_json::Value = serde_json::from_slice(&reply.body)?;
    let path = format!("/v1/bookings/{}", view["id"].as_str().context("an id")?);
    let headers = crowd.headers(number);
    let (mut after_s, mut polls, until) = (reply.retry_after_s, 0, Instant::now() + FOLLOW_MAX);
    while Instant::now() < until {
        let pause_s = match habit {
            Habit::Directed => after_s.context("an answer without Retry-After")?,
            Habit::EachSecond => 1,
        };
        sleep(Duration::from_secs(pause_s)).await;
        let reply = self::reply(client.send(Method::GET, &path, &headers, Bytes::new()).await)?;
        polls += 1;
        ensure!(reply.status == 200, "a patient heard {}: {:?}", reply.status, reply.body);
        let view: serde_json::Value = serde_json::from_slice(&reply.body)?;
        if view["status"] == "booked" {
            let at: Timestamp = view["persisted_at"].as_str().context("a time")?.parse()?;
            let late_ms = SystemClock.now().0 - at.as_millisecond();
            return Ok((polls, Duration::from_millis(u64::try_from(late_ms).unwrap_or(0))));
        }
        after_s = reply.retry_after_s;
    }
    bail!("{path} had no end")
}

fn reply(sent: Sent) -> Result<Reply> {
    match sent {
        Sent::Reply(reply) => Ok(reply),
        Sent::NotSent | Sent::Lost => bail!("a patient had no answer"),
    }
}
