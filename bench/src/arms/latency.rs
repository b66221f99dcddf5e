//! Latency under offered load: F1, F3, F4, the curves; and the storm at t = 0 (F5).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use booking::{BookingId, SlotId};
use bytes::Bytes;
use e2e::system::url_of;
use futures::FutureExt as _;
use hyper::Method;
use hyper::header::HeaderValue;
use rush::client::{Client, Sent};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::{Costs, DRAIN_MAX, LOAD, Rig, local};
use crate::latency::{Latency, Percentiles};
use crate::load::open::{self, Arrivals};
use crate::load::{Counts, Outcome, storm};
use crate::stats;
use crate::world::{Again, Bookings, Taken};

/// Connections of the search for saturation, and its rounds.
const CONNECTIONS: usize = 256;
const SATURATION_ROUNDS: usize = 3;
/// Connections that offered bookings come over: the gateway must see what it is to turn away, so more than
/// it lets in.
const OPEN_CONNECTIONS: usize = 2_048;
/// How long before latencies count at more than full load: a gateway lets everybody in for a second, and
/// then keeps the line short.
const SETTLE: Duration = Duration::from_millis(2_500);
/// Offered load of the steps, as shares of what is accepted at saturation. Half of it three times: what F1
/// is made of differs most from step to step, by what the disk does meanwhile. Never right after a full load
/// or a storm, whose leftovers would be measured.
const LOADS: [f64; 8] = [0.25, 0.5, 0.5, 0.5, 0.75, 1.0, 1.2, 1.5];
/// Those of a first look.
const LOADS_QUICK: [f64; 3] = [0.5, 1.0, 1.2];
const HALF: f64 = 0.5;
const OVER: f64 = 1.2;
/// Requests that may wait for a connection.
const WAITING_MAX: usize = 100_000;
/// Empty requests a second, beside the half load.
const EMPTY_PER_S: f64 = 100.0;
/// Followers of bookings at once: a booking is followed if one of them is free.
const FOLLOWERS: usize = 32;
/// How long following may take.
const FOLLOW_MAX: Duration = Duration::from_secs(25);
/// Connections of the storm, within what time, and when an answer is in time.
const STORM: (usize, Duration, Duration) =
    (10_000, Duration::from_millis(100), Duration::from_secs(2));

/// What one offered load gave.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Of what is accepted at saturation.
    pub share: f64,
    /// Offered, requests/s.
    pub offered_per_s: f64,
    /// By outcome.
    pub counts: Counts,
    /// Never sent.
    pub unsent: u64,
    /// Of the accepted, from intended start.
    pub accepted: Percentiles,
    /// Of those turned away.
    pub shed: Percentiles,
    /// Connections that the server had closed.
    pub reconnects: u64,
    /// Processor time of each accepted booking, by process, µs: of the whole step until nothing moves, with
    /// the opening and greeting of its connections and those who are turned away; at half load also with the
    /// followers and the probes.
    pub cpu_us: BTreeMap<&'static str, f64>,
}

impl Step {
    /// What of the offered was turned away or never sent, 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53")]
    pub fn shed_share(&self) -> f64 {
        let offered = self.counts.total() + self.unsent;
        (self.counts.shed + self.unsent) as f64 / offered.max(1) as f64
    }
}

impl Rig<'_> {
    /// Finds saturation, then offers shares of it.
    pub(super) async fn latency(&mut self) -> Result<()> {
        let full = self.saturation().await?;
        self.results.note("saturation_per_s", full);
        let loads = if self.pace.is_quick() { &LOADS_QUICK[..] } else { &LOADS };
        for cycle in 0..self.pace.cycles {
            let mut halves = Vec::new();
            for index in Self::order(cycle, loads.len()) {
                let share = loads[index];
                (self.say)(&format!(
                    "latency, round {}: {:.0} % of {full:.0} bookings/s",
                    cycle + 1,
                    share * 100.0
                ));
                let step = self.step(share, share * full).await?;
                if (share - HALF).abs() < f64::EPSILON {
                    self.results.note("half_p99_ms", step.accepted.p99_ms);
                    halves.push(step.accepted.p99_9_ms);
                } else if (share - OVER).abs() < f64::EPSILON {
                    self.results.note("over_p99_9_ms", step.accepted.p99_9_ms);
                }
                self.results.curve.push(step);
            }
            self.results.note("half_p99_9_ms", stats::median(halves));
            (self.say)(&format!("latency, round {}: ten thousand at once", cycle + 1));
            self.storm().await?;
        }
        Ok(())
    }

    /// The median of some rounds: what is offered, and so all latencies, follow from it.
    async fn saturation(&mut self) -> Result<f64> {
        let mut rates = Vec::new();
        for round in 0..SATURATION_ROUNDS {
            (self.say)(&format!("latency: looking for saturation, round {}", round + 1));
            rates.push(self.most_per_s().await?);
        }
        Ok(stats::median(rates))
    }

    async fn most_per_s(&self) -> Result<f64> {
        let offer = self.hot_slot().await?;
        let after = self.newest().await?;
        let work = Bookings::new(&self.world.crowd, "/v1/bookings", &offer.slots, 1, 0);
        let parts = self.world.parts();
        let (report, _, _) = self.load(self.world.port, CONNECTIONS, &parts, work).await?;
        self.balanced(after, report.all().accepted).await?;
        Ok(report.per_second(Outcome::Accepted))
    }

    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53")]
    async fn step(&mut self, share: f64, rate_per_s: f64) -> Result<Step> {
        let offer = self.hot_slot().await?;
        let after = self.newest().await?;
        let is_half = (share - HALF).abs() < f64::EPSILON;
        let (tell, told) = mpsc::channel(1);
        let mut work = Bookings::new(&self.world.crowd, "/v1/bookings", &offer.slots, 1, 0);
        if is_half {
            work = work.telling(tell);
        } else {
            drop(tell);
        }
        // Each of another patient, so that nobody asks too often.
        let greeting = |number| self.world.crowd.booking("/v1/nothing", number, SlotId::from(256));
        let greetings = (0..OPEN_CONNECTIONS).map(greeting).collect();
        let plan = open::Plan {
            address: local(self.world.port),
            connections: OPEN_CONNECTIONS,
            greetings,
            rate_per_s,
            arrivals: Arrivals::Poisson { seed: 7 },
            warm_up: if share > 1.0 { SETTLE } else { self.pace.warm_up },
            duration: self.pace.round,
            waiting_max: WAITING_MAX,
            drain: DRAIN_MAX,
        };
        let costs = Costs::begin(&self.world.parts());
        let (begins, begun) = oneshot::channel();
        // Who follows ends when nobody can tell of a booking any more: the work is dropped at once.
        let loaded =
            async { open::run_telling(plan, work, begins).await.map(|(report, _)| report) };
        let report = if is_half {
            let lasts = self.pace.warm_up + self.pace.round;
            // To the same queue: a booking that has its row changes nothing by coming again.
            let again = self.world.published(BookingId::from(after)).await?;
            let prober = self.other.prober(&again, lasts, self.pace.warm_up).await?;
            // At the same instants as the load, not while it opens its connections.
            let begun = begun.map(|begun| begun.is_ok()).shared();
            let begun = || async {
                ensure!(begun.clone().await, "the load did not begin");
                Ok(())
            };
            let confirmed = async {
                begun().await?;
                prober.run().await
            };
            let beside = async {
                tokio::try_join!(confirmed, self.empty_beside(begun(), lasts), self.follow(told))
            };
            let (loaded, beside) = tokio::join!(loaded, beside);
            let report = loaded?;
            let (confirm_p99_ms, empty_p99_ms, certain) = beside?;
            ensure!(certain.percentiles().count > 0, "no booking was followed to its end");
            self.results.note("confirm_p99_ms", confirm_p99_ms);
            self.results.note("empty_p99_ms", empty_p99_ms);
            self.results.note("certain_p99_ms", certain.percentiles().p99_ms);
            report
        } else {
            loaded.await?
        };
        self.world.settle().await?;
        let costs = costs.end();
        let all = report.counts.and(&report.warm_up);
        ensure!(all.failed == 0 && all.lost == 0, "{} failed, {} lost", all.failed, all.lost);
        self.balanced(after, all.accepted).await?;
        let mut cpu_us: BTreeMap<_, _> = costs.each(all.accepted).collect();
        cpu_us.insert(LOAD, report.cpu_s * 1e6 / all.accepted.max(1) as f64);
        Ok(Step {
            share,
            offered_per_s: rate_per_s,
            counts: report.counts,
            unsent: report.unsent,
            accepted: report.latencies.of(Outcome::Accepted).percentiles(),
            shed: report.latencies.of(Outcome::Shed).percentiles(),
            reconnects: report.reconnects,
            cpu_us,
        })
    }

    /// How long an empty answer takes at that moment.
    async fn empty_beside(
        &self,
        begun: impl Future<Output = Result<()>>,
        lasts: Duration,
    ) -> Result<f64> {
        let slot = SlotId::from(256);
        let request = self.world.crowd.booking("/empty/v1/bookings", 0, slot);
        let plan = open::Plan {
            address: local(self.other.port),
            connections: 4,
            greetings: vec![request.clone()],
            rate_per_s: EMPTY_PER_S,
            arrivals: Arrivals::Uniform,
            warm_up: self.pace.warm_up,
            duration: lasts.saturating_sub(self.pace.warm_up),
            waiting_max: WAITING_MAX,
            drain: DRAIN_MAX,
        };
        begun.await?;
        let (report, _) = open::run(plan, Again::new(vec![request], 204)).await?;
        Ok(report.latencies.of(Outcome::Accepted).percentiles().p99_ms)
    }

    /// F4: follows some of the accepted bookings to their end, as their patients do: from the answer
    /// "queued" until "booked" was read.
    async fn follow(&self, mut told: mpsc::Receiver<Taken>) -> Result<Latency> {
        let client = Client::new(&url_of(self.world.port)?, FOLLOWERS, FOLLOW_MAX)?;
        client.warm(FOLLOWERS).await;
        let (client, mut latency) = (Arc::new(client), Latency::default());
        let mut followers = JoinSet::new();
        let mut is_over = false;
        while !is_over || !followers.is_empty() {
            tokio::select! {
                taken = told.recv(), if !is_over && followers.len() < FOLLOWERS => {
                    let Some(taken) = taken else { is_over = true; continue };
                    let headers = self.world.crowd.headers(taken.patient);
                    let client = Arc::clone(&client);
                    followers.spawn(async move { follow_one(&client, &headers, &taken).await });
                }
                Some(ended) = followers.join_next() => latency.record(ended??),
            }
        }
        Ok(latency)
    }

    /// F5: everybody clicks when the clock strikes.
    async fn storm(&mut self) -> Result<()> {
        let (connections, window, answer_max) = STORM;
        let offer = self.hot_slot().await?;
        let after = self.newest().await?;
        let work = Bookings::new(&self.world.crowd, "/v1/bookings", &offer.slots, 1, 0);
        let plan = storm::Plan {
            address: local(self.world.port),
            connections,
            window,
            sources: 1,
            threads: 2,
            answer_max,
            drain: DRAIN_MAX,
        };
        let (report, work) = storm::run(plan, work).await?;
        ensure!(report.counts.failed == 0, "{} failed", report.counts.failed);
        if report.counts.shed > 0 {
            let (shed, first) = (report.counts.shed, work.complaint());
            (self.say)(&format!(
                "{shed} of {connections} were turned away, the first with {first}"
            ));
        }
        // Who had no answer in time, or heard 503, may have a place all the same: whether Redis gave one was
        // not known then. They find it by asking again.
        self.world.rest().await?;
        let (count, _) = self.persisted_since(after).await?;
        let counts = &report.counts;
        let (least, most) = (counts.accepted, counts.accepted + counts.lost + counts.shed);
        ensure!((least..=most).contains(&count), "{count} rows: {counts:?}");
        ensure!(counts.refused == 0, "places are left, and {} heard of none", counts.refused);
        #[expect(clippy::cast_precision_loss, reason = "some 10,000")]
        self.results.note("storm_turned_away", counts.shed as f64);
        #[expect(clippy::cast_precision_loss, reason = "some 10,000")]
        self.results.note("storm_refused", (report.refused + report.unopened) as f64);
        self.results.note("storm_answered", report.answered_share());
        self.results.note("storm_opened_ms", report.opened_ms);
        Ok(())
    }
}

async fn follow_one(
    client: &Client,
    headers: &[(&'static str, HeaderValue)],
    taken: &Taken,
) -> Result<Duration> {
    let path = format!("/v1/bookings/{}?wait=20", taken.id);
    let sent = client.send(Method::GET, &path, headers, Bytes::new()).await;
    let took = taken.at.elapsed();
    let Sent::Reply(reply) = sent else { bail!("a booking could not be followed: {sent:?}") };
    let view: serde_json::Value = serde_json::from_slice(&reply.body)?;
    ensure!(view["status"] == "booked", "{} is {}", taken.id, view["status"]);
    Ok(took)
}
