//! What costs next to nothing: an empty answer (B0), "sold out" (S1, S2) and a poll (G1).
//!
//! An empty answer is that of the same server to the same request: its door, its limits, its metrics and
//! its log are around a handler that answers 204. Without them it is the arm "bare", for comparison.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::{CONNECTIONS, DRAIN_MAX, Rig, local, round_of};
use crate::load::{Outcome, Work as _, closed};
use crate::world::{Again, Bookings, Parts};

/// Sessions with one place each: the limit of requests for one session must not measure itself.
const SESSIONS: u32 = 8;
/// Of the crowd, those who try to buy these places: nobody else has one.
const BUYERS: usize = SESSIONS as usize * 4;
/// How long it may take until everybody was seen.
const GREET_MAX: Duration = Duration::from_mins(2);
/// Of the crowd, those who ask for nothing, and as many who ask for what is sold out; their requests are
/// made beforehand. Enough for the limit by account.
const ASKERS: usize = 40_000;
/// Bookings that are polled.
const POLLED: usize = 2_000;

impl Rig<'_> {
    /// Plays B0, S1 and G1.
    pub(super) async fn floor(&mut self) -> Result<()> {
        let polls = self.polls().await?;
        let idle_per_s = self.idle_commands_per_s().await?;
        for cycle in 0..self.pace.floor_cycles() {
            (self.say)(&format!("floor, round {}: empty, sold out, poll, bare", cycle + 1));
            for arm in Self::order(cycle, 4) {
                match arm {
                    0 => self.empty("B0").await?,
                    1 => self.refusals(idle_per_s).await?,
                    2 => self.polled(&polls).await?,
                    _ => self.bare_answers().await?,
                }
            }
        }
        Ok(())
    }

    /// B0.
    pub(super) async fn empty(&mut self, arm: &'static str) -> Result<()> {
        let slot = booking::SlotId::from(256);
        let requests = (0..ASKERS).map(|n| self.world.crowd.booking("/empty/v1/bookings", n, slot));
        self.nothing(arm, requests.collect()).await
    }

    async fn bare_answers(&mut self) -> Result<()> {
        let request = Bytes::from_static(b"GET /bare HTTP/1.1\r\nhost: bench\r\n\r\n");
        self.nothing("bare", vec![request]).await
    }

    async fn nothing(&mut self, arm: &'static str, requests: Vec<Bytes>) -> Result<()> {
        let parts: Parts = vec![("direct", self.other.pid())];
        let work = Again::new(requests, 204);
        let (report, _, costs) = self.load(self.other.port, CONNECTIONS, &parts, work).await?;
        self.results.add(arm, round_of(Outcome::Accepted, &report, &costs));
        Ok(())
    }

    /// Lets everybody ask once for what is sold out, as patients look at a release before it opens: the
    /// first sight of a token costs a signature.
    pub(super) async fn greet(&mut self) -> Result<()> {
        (self.say)("everybody is seen for the first time");
        self.sold_out = self.sell_out().await?;
        let began = Instant::now();
        self.greet_at(self.world.port).await?;
        #[expect(clippy::cast_precision_loss, reason = "some 100,000")]
        let everybody = (self.world.crowd.len() - BUYERS) as f64;
        self.results.note("first_sight_per_s", everybody / began.elapsed().as_secs_f64());
        Ok(())
    }

    /// The same at this port.
    pub(super) async fn greet_at(&self, port: u16) -> Result<()> {
        let everybody = self.world.crowd.len() - BUYERS;
        let plan = closed::Plan {
            address: local(port),
            connections: CONNECTIONS,
            warm_up: Duration::ZERO,
            duration: GREET_MAX,
            drain: DRAIN_MAX,
        };
        let (report, work) = closed::run(plan, self.losers(BUYERS)).await?;
        let all = report.all();
        ensure!(all.refused == everybody as u64, "{all:?}: {}", work.complaint());
        Ok(())
    }

    /// Everybody from this one on asks for places that are sold out.
    fn losers(&self, first: usize) -> Bookings {
        let crowd = &self.world.crowd;
        Bookings::new(crowd, "/v1/bookings", &self.sold_out, 1, first).only(crowd.len() - first)
    }

    /// Slots whose only place is sold.
    async fn sell_out(&self) -> Result<Vec<booking::SlotId>> {
        let offer = self.world.offer(SESSIONS, 1, 1).await?;
        let buyers = Bookings::new(&self.world.crowd, "/v1/bookings", &offer.slots, 1, 0);
        let parts = self.world.parts();
        let (report, _, _) = self.load(self.world.port, 1, &parts, buyers.only(BUYERS)).await?;
        let sold = report.all().accepted;
        ensure!(sold == u64::from(SESSIONS), "{sold} places of {SESSIONS} were sold");
        self.world.rest().await?;
        Ok(offer.slots)
    }

    /// What everything that runs beside asks of Redis while nobody asks for a place.
    async fn idle_commands_per_s(&self) -> Result<f64> {
        let (before, began) = (self.redis_commands().await?, Instant::now());
        tokio::time::sleep(self.pace.round).await;
        let commands = self.redis_commands().await? - before;
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53")]
        Ok(commands as f64 / began.elapsed().as_secs_f64())
    }

    async fn refusals(&mut self, idle_per_s: f64) -> Result<()> {
        // Not those who have a place by now: whoever may repeat a wish that won is asked for in Redis.
        let mut losers = self.losers(BUYERS.max(POLLED)).only(ASKERS);
        let requests = std::iter::from_fn(|| losers.next()).map(|request| request.bytes);
        let work = Again::sold_out(requests.collect());
        let (before, began) = (self.redis_commands().await?, Instant::now());
        let parts = self.world.parts();
        let (report, _, costs) = self.load(self.world.port, CONNECTIONS, &parts, work).await?;
        let commands = self.redis_commands().await? - before;
        let all = report.all();
        ensure!(all.accepted == 0, "{} places of none were sold", all.accepted);
        let beside = idle_per_s * began.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53")]
        let each = (commands as f64 - beside).max(0.0) / all.refused.max(1) as f64;
        self.results.note("S2", each);
        self.results.add("S1", round_of(Outcome::Refused, &report, &costs));
        Ok(())
    }

    /// Requests that ask what became of bookings.
    async fn polls(&self) -> Result<Vec<Bytes>> {
        let offer = self.hot_slot().await?;
        let (tell, mut told) = mpsc::channel(POLLED);
        let work = Bookings::new(&self.world.crowd, "/v1/bookings", &offer.slots, 1, 0);
        let work = work.only(POLLED).telling(tell);
        let parts = self.world.parts();
        drop(self.load(self.world.port, CONNECTIONS, &parts, work).await?);
        self.world.rest().await?;
        let mut polls = Vec::new();
        while let Some(taken) = told.recv().await {
            polls.push(self.world.crowd.status(taken.patient, &taken.id, 0));
        }
        ensure!(polls.len() == POLLED, "{} of {POLLED} were accepted", polls.len());
        Ok(polls)
    }

    async fn polled(&mut self, polls: &[Bytes]) -> Result<()> {
        let work = Again::new(polls.to_vec(), 200);
        let parts = self.world.parts();
        let (report, _, costs) = self.load(self.world.port, CONNECTIONS, &parts, work).await?;
        self.results.add("G1", round_of(Outcome::Accepted, &report, &costs));
        Ok(())
    }

    /// Commands that the pipeline's Redis has run so far, those of scripts too.
    async fn redis_commands(&self) -> Result<u64> {
        let text = e2e::reach::redis_info(self.world.redis_port(), "commandstats").await?;
        let calls = text.lines().filter_map(|line| line.split("calls=").nth(1)?.split(',').next());
        Ok(calls.filter_map(|calls| calls.parse::<u64>().ok()).sum())
    }
}
