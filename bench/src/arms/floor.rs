//! What costs next to nothing: an empty answer (B0), "sold out" (S1, S2) and a poll (G1).

use anyhow::{Result, ensure};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::{CONNECTIONS, Rig, round_of};
use crate::load::Outcome;
use crate::world::{Again, Bookings, Parts};

/// Sessions with one place each: the limit of requests for one session must not measure itself.
const SESSIONS: u32 = 8;
/// Bookings that are polled.
const POLLED: usize = 2_000;

impl Rig<'_> {
    /// Plays B0, S1 and G1.
    pub(super) async fn floor(&mut self) -> Result<()> {
        let sold_out = self.sold_out().await?;
        let polls = self.polls().await?;
        for cycle in 0..self.pace.cycles {
            (self.say)(&format!("floor, round {}: empty, sold out, poll", cycle + 1));
            for arm in Self::order(cycle, 3) {
                match arm {
                    0 => self.empty().await?,
                    1 => self.refusals(&sold_out).await?,
                    _ => self.polled(&polls).await?,
                }
            }
        }
        Ok(())
    }

    /// B0.
    pub(super) async fn empty(&mut self) -> Result<()> {
        let request = Bytes::from_static(b"GET /empty HTTP/1.1\r\nhost: bench\r\n\r\n");
        let parts: Parts = vec![("direct", self.other.pid())];
        let work = Again::new(vec![request], 204);
        let (report, _, costs) = self.load(self.other.port, CONNECTIONS, &parts, work).await?;
        self.results.add("B0", round_of(Outcome::Accepted, &report, &costs));
        Ok(())
    }

    /// Slots whose only place is sold.
    async fn sold_out(&self) -> Result<Vec<booking::SlotId>> {
        let offer = self.world.offer(SESSIONS, 1, 1).await?;
        let buyers = Bookings::new(&self.world.crowd, "/v1/bookings", &offer.slots, 1, 0);
        let count = usize::try_from(SESSIONS)? * 4;
        let parts = self.world.parts();
        let (report, _, _) = self.load(self.world.port, 1, &parts, buyers.only(count)).await?;
        let sold = report.all().accepted;
        ensure!(sold == u64::from(SESSIONS), "{sold} places of {SESSIONS} were sold");
        self.world.rest().await?;
        Ok(offer.slots)
    }

    async fn refusals(&mut self, slots: &[booking::SlotId]) -> Result<()> {
        // Nobody who has a place asks.
        let work = Bookings::new(&self.world.crowd, "/v1/bookings", slots, 1, 64);
        let before = self.redis_commands().await?;
        let parts = self.world.parts();
        let (report, _, costs) = self.load(self.world.port, CONNECTIONS, &parts, work).await?;
        let commands = self.redis_commands().await? - before;
        let all = report.all();
        ensure!(all.accepted == 0, "{} places of none were sold", all.accepted);
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53")]
        self.results.note("S2", commands as f64 / all.refused.max(1) as f64);
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
