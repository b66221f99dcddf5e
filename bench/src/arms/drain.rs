//! How fast a full queue is emptied (C5), beside the usual worker (B4); one slot, and a hundred thousand.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::spread::{SESSIONS, SLOTS};
use super::{CONNECTIONS, Rig, Round};
use crate::world::Bookings;

/// What the usual worker persists in a second, at most: its queue must not run empty.
const USUAL_PER_S: f64 = 4_000.0;

/// A drain that is shorter says nothing.
const SHORTEST: Duration = Duration::from_millis(50);

impl Rig<'_> {
    /// Plays both workers on both kinds of queue. To fill the queues takes longer than to empty them, so a
    /// first look is one round.
    pub(super) async fn drain(&mut self) -> Result<()> {
        self.open_spread().await?;
        let cycles = if self.pace.is_quick() { 1 } else { self.pace.cycles };
        for cycle in 0..cycles {
            (self.say)(&format!("drain, round {}: both workers, hot and spread", cycle + 1));
            for arm in Self::order(cycle, 4) {
                match arm {
                    0 => self.usual_drain("B4", 1, 1).await?,
                    1 => self.own_drain("drain", false).await?,
                    2 => self.own_drain("drain-spread", true).await?,
                    _ => self.usual_drain("B4-spread", SESSIONS, u32::from(SLOTS)).await?,
                }
            }
        }
        Ok(())
    }

    async fn usual_drain(&mut self, arm: &'static str, sessions: u32, slots: u32) -> Result<()> {
        let lasts = self.pace.round;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some 10,000")]
        let bookings = (USUAL_PER_S * lasts.as_secs_f64()) as u32;
        let drained = self.other.drain(sessions, slots, bookings, lasts).await?;
        ensure!(drained.persisted > 0, "nothing was persisted");
        self.results.add(arm, rate(drained.persisted, drained.elapsed_ms / 1_000.0));
        Ok(())
    }

    async fn own_drain(&mut self, arm: &'static str, is_spread: bool) -> Result<()> {
        let work = if is_spread {
            self.spread_bookings()?
        } else {
            let offer = self.hot_slot().await?;
            Bookings::new(&self.world.crowd, "/v1/bookings", &offer.slots, 1, 0)
        };
        let after = self.newest().await?;
        self.world.worker.pause();
        let loaded = self.load(self.world.port, CONNECTIONS, &self.world.parts(), work).await;
        self.world.worker.resume();
        let (report, work, _) = loaded?;
        if is_spread {
            self.go_on_from(work.next_number());
        }
        let shed = report.all().shed;
        ensure!(shed == 0, "{shed} were turned away: {}", work.complaint());
        self.drained(arm, after, report.all().accepted).await
    }

    /// Waits until all accepted bookings since `after` have their rows, and notes how fast they got them.
    pub(super) async fn drained(
        &mut self,
        arm: &'static str,
        after: i64,
        accepted: u64,
    ) -> Result<()> {
        let count = self.balanced(after, accepted).await?;
        // From the first row to the last: how long the worker takes to wake up is no part of it.
        let seconds = self
            .world
            .sql(&format!(
                "SELECT extract(epoch FROM max(changed_at) - min(changed_at))
                 FROM booking WHERE id > {after}"
            ))
            .await?;
        let seconds: f64 = seconds.parse()?;
        let is_measured = seconds > SHORTEST.as_secs_f64();
        ensure!(is_measured, "{count} rows in {seconds} s are too few to measure");
        self.results.add(arm, rate(count, seconds));
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "fewer than 2^53")]
fn rate(count: u64, seconds: f64) -> Round {
    Round { per_s: count as f64 / seconds, count, ..Round::default() }
}
