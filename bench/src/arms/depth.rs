//! How a queue that grew long is emptied, and what it takes of the broker: a hundred thousand bookings, and
//! four times as many.

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::resident_bytes;

use super::size::per;
use super::{DRAIN_MAX, RUSH, Rig, local};
use crate::load::closed;
use crate::world::Bookings;

/// How many, the arm, and the names of its figures: what each takes of the broker, and how many times each
/// was published again, because nobody could tell that it only waits.
const DEPTHS: [(usize, &str, &str, &str); 2] = [
    (100_000, "depth-100k", "queued_bytes-100k", "relayed-100k"),
    (400_000, "depth-400k", "queued_bytes-400k", "relayed-400k"),
];
/// How long the bookings may take to come.
const FILL_MAX: Duration = Duration::from_mins(5);

impl Rig<'_> {
    /// Lets bookings wait for a worker that is stopped, then lets it go.
    pub(super) async fn depth(&mut self) -> Result<()> {
        for (count, arm, memory, relayed) in DEPTHS {
            (self.say)(&format!("growth: a queue of {count} bookings"));
            let patients = self.world.crowd.len();
            let sessions = u32::try_from(count.div_ceil(patients))?;
            let offer = self.world.offer(sessions, 1, u32::try_from(patients)?).await?;
            let crowd = Bookings::new(&self.world.crowd, "/v1/bookings", &offer.slots, 1, 0);
            let (after, broker) = (self.newest().await?, self.world.rabbit_pid());
            let before = resident_bytes(broker);
            self.world.worker.pause();
            let plan = closed::Plan {
                address: local(self.world.port),
                connections: RUSH,
                warm_up: Duration::ZERO,
                duration: FILL_MAX,
                drain: DRAIN_MAX,
            };
            let filled = closed::run(plan, crowd.only(count)).await;
            let grown = resident_bytes(broker).saturating_sub(before);
            self.world.worker.resume();
            let (report, crowd) = filled?;
            let accepted = report.all().accepted;
            ensure!(accepted == count as u64, "{accepted} accepted: {}", crowd.complaint());
            (self.say)(&format!("the worker goes on, with {count} bookings to persist"));
            let before = self.relayed().await?;
            self.drained(arm, after, accepted).await?;
            self.results.note(memory, per(grown, count));
            self.results.note(relayed, per(self.relayed().await? - before, count));
        }
        Ok(())
    }

    /// Bookings that the worker's relay has published so far.
    async fn relayed(&self) -> Result<u64> {
        let metrics = self.world.worker.metrics().await?;
        let name = "slotrush_relay_published_total ";
        let value = metrics.lines().find_map(|line| line.strip_prefix(name));
        // A counter appears when it first counts.
        value.map_or(Ok(0), |value| Ok(value.trim().parse()?))
    }
}
