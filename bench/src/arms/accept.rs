//! How many bookings are taken: Redis alone (B1), the gateway with the worker paused (A1) and running (A2).

use anyhow::{Result, ensure};

use super::{Rig, round_of};
use crate::load::Outcome;
use crate::world::{Bookings, Parts};

/// Connections, and the names of the arms.
const WIDTHS: [(usize, [&str; 3]); 2] =
    [(64, ["B1-64", "A1-64", "A2-64"]), (256, ["B1-256", "A1-256", "A2-256"])];
/// Holds of a second, about: how many make a round.
const HOLDS_PER_S: f64 = 30_000.0;

impl Rig<'_> {
    /// Plays B1, A1 and A2 with both numbers of connections, and B0 beside them.
    pub(super) async fn accept(&mut self) -> Result<()> {
        for cycle in 0..self.pace.cycles {
            (self.say)(&format!(
                "accept, round {}: Redis alone, gateway, empty, gateway and worker",
                cycle + 1
            ));
            for (connections, [bare, paused, running]) in WIDTHS {
                for arm in Self::order(cycle, 4) {
                    match arm {
                        0 => self.bare_holds(bare, connections).await?,
                        1 => self.accepted(paused, connections, true).await?,
                        // A neighbour of its own: those of the group before are minutes old.
                        2 if connections == super::CONNECTIONS => self.empty("B0-accept").await?,
                        2 => {}
                        _ => self.accepted(running, connections, false).await?,
                    }
                }
            }
        }
        Ok(())
    }

    async fn bare_holds(&mut self, arm: &'static str, connections: usize) -> Result<()> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few 100,000"
        )]
        let count = (HOLDS_PER_S * self.pace.round.as_secs_f64()) as u32;
        let parts: Parts = vec![("redis", self.bare.pid())];
        let before = super::Costs::begin(&parts);
        let per_s = self.bare.hold(u32::try_from(connections)?, count).await?;
        let round = before.end().alone(per_s, u64::from(count));
        self.results.add(arm, round);
        Ok(())
    }

    /// Messages that the gateway has sent with bookings, and the bookings in them.
    async fn envelopes(&self) -> Result<(f64, f64)> {
        let metrics = self.world.gateway.metrics().await?;
        let read = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
        };
        Ok((read("slotrush_envelope_size_count"), read("slotrush_envelope_size_sum")))
    }

    async fn accepted(
        &mut self,
        arm: &'static str,
        connections: usize,
        is_paused: bool,
    ) -> Result<()> {
        let offer = self.hot_slot().await?;
        let after = self.newest().await?;
        let work = Bookings::new(&self.world.crowd, "/v1/bookings", &offer.slots, 1, 0);
        if is_paused {
            self.world.worker.pause();
        }
        let parts = self.world.parts();
        let before = self.envelopes().await?;
        let loaded = self.load(self.world.port, connections, &parts, work).await;
        if is_paused {
            self.world.worker.resume();
        }
        let (report, work, costs) = loaded?;
        if connections > super::CONNECTIONS && !is_paused {
            let now = self.envelopes().await?;
            self.results.note("messages_per_booking", (now.0 - before.0) / (now.1 - before.1));
        }
        let shed = report.all().shed;
        ensure!(shed == 0, "{shed} were turned away: {}", work.complaint());
        self.balanced(after, report.all().accepted).await?;
        self.results.add(arm, round_of(Outcome::Accepted, &report, &costs));
        Ok(())
    }
}
