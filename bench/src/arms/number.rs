//! What more gateways and more partitions cost: one to three and one to four of them, under the same load.
//!
//! On a machine whose cores are full already they bring no more bookings. What a booking costs tells what
//! each would take of machines of its own.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::Program;
use futures::future::try_join_all;

use super::{Costs, DRAIN_MAX, LOAD, RUSH, Rig, local};
use crate::load::closed;
use crate::world::Bookings;

/// How many gateways, and the arms.
const GATEWAYS: [(usize, &str); 3] = [(1, "gateways-1"), (2, "gateways-2"), (3, "gateways-3")];
/// The names of the second and the third in the report.
const MORE: [&str; 2] = ["gateway 2", "gateway 3"];
/// How many partitions, and the arms.
const PARTITIONS: [(u8, &str); 3] = [(1, "partitions-1"), (2, "partitions-2"), (4, "partitions-4")];
/// Sessions with a slot each: enough for each partition to have some.
const SESSIONS: u32 = 32;
/// Patients of each world of the partitions.
const PATIENTS: u32 = 20_000;

impl Rig<'_> {
    /// The same connections, spread over more gateways.
    pub(super) async fn gateways(&mut self) -> Result<()> {
        // What was played before takes longer than tokens last.
        self.world.renew_tokens()?;
        self.greet().await?;
        let mut more = Vec::new();
        for (count, arm) in GATEWAYS {
            (self.say)(&format!("growth: {count} gateways"));
            while more.len() + 1 < count {
                let started = Instant::now();
                let another = self.world.another_gateway(MORE[more.len()]).await?;
                (self.say)(&format!("a further gateway was ready after {:.1?}", started.elapsed()));
                self.greet_at(another.1).await?;
                more.push(another);
            }
            for _ in 0..self.pace.cycles {
                self.shared_by(arm, &more).await?;
            }
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53")]
    async fn shared_by(&mut self, arm: &'static str, more: &[(Program, u16)]) -> Result<()> {
        let ports: Vec<u16> =
            [self.world.port].into_iter().chain(more.iter().map(|one| one.1)).collect();
        // A slot for the patients of each, and places for all of them.
        let offer = self.world.offer(u32::try_from(ports.len())?, 1, self.pace.patients).await?;
        let after = self.newest().await?;
        let mut measured = self.world.parts();
        measured.extend(
            MORE.into_iter().zip(more).map(|(name, (gateway, _))| (name, gateway.id().pid)),
        );
        let costs = Costs::begin(&measured);
        let loads = ports.iter().zip(&offer.slots).map(|(port, slot)| {
            let plan = closed::Plan {
                address: local(*port),
                connections: RUSH / ports.len(),
                warm_up: Duration::ZERO,
                duration: self.pace.warm_up + self.pace.round,
                drain: DRAIN_MAX,
            };
            closed::run(plan, Bookings::new(&self.world.crowd, "/v1/bookings", &[*slot], 1, 0))
        });
        let loaded = try_join_all(loads).await?;
        self.world.settle().await?;
        let costs = costs.end();
        self.world.audit().await?;
        let (mut accepted, mut of_load) = (0, 0.0);
        for (report, work) in &loaded {
            let all = report.all();
            ensure!(all.failed == 0 && all.lost == 0, "{all:?}: {}", work.complaint());
            accepted += all.accepted;
            of_load += report.cpu_s;
        }
        let (count, per_s) = self.persisted_since(after).await?;
        ensure!(count == accepted, "{count} rows of {accepted} accepted bookings");
        let mut round = costs.alone(per_s, count);
        round.cpu_us.insert(LOAD, of_load * 1e6 / count.max(1) as f64);
        self.results.add(arm, round);
        Ok(())
    }

    /// Worlds with more and more partitions, each beside the first one, which is at rest.
    pub(super) async fn partitions(&mut self) -> Result<()> {
        for (count, arm) in PARTITIONS {
            (self.say)(&format!("growth: {count} partitions"));
            let beside = self.world.beside(arm, count, PATIENTS).await?;
            let first = std::mem::replace(&mut self.world, beside);
            let sold_out = std::mem::take(&mut self.sold_out);
            let played = self.partitioned(arm).await;
            self.sold_out = sold_out;
            let beside = std::mem::replace(&mut self.world, first);
            played?;
            beside.end()?;
        }
        Ok(())
    }

    async fn partitioned(&mut self, arm: &'static str) -> Result<()> {
        self.greet().await?;
        for _ in 0..self.pace.cycles {
            let offer = self.world.offer(SESSIONS, 1, PATIENTS).await?;
            let work = Bookings::new(&self.world.crowd, "/v1/bookings", &offer.slots, 1, 0);
            let (round, _) = self.pipeline(RUSH, work).await?;
            self.results.add(arm, round);
        }
        Ok(())
    }
}
