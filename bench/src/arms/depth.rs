//! How a queue that grew long is emptied, and what it takes of the broker: a hundred thousand bookings,
//! four times as many, and, if it is asked for, five million.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testkit::resident_bytes;

use super::size::per;
use super::{DRAIN_MAX, RUSH, Rig, local};
use crate::load::closed;
use crate::world::Bookings;

/// How many bookings wait.
pub(super) struct Depth {
    count: usize,
    arm: &'static str,
    /// What each takes of the broker.
    memory: &'static str,
    /// How many times each was published again, because nobody could tell that it only waits.
    relayed: &'static str,
}

impl Depth {
    /// Of every whole run.
    pub(super) const LONG: [Self; 2] = [
        Self {
            count: 100_000,
            arm: "depth-100k",
            memory: "queued_bytes-100k",
            relayed: "relayed-100k",
        },
        Self {
            count: 400_000,
            arm: "depth-400k",
            memory: "queued_bytes-400k",
            relayed: "relayed-400k",
        },
    ];
    /// Takes nine minutes.
    pub(super) const DEEP: [Self; 1] = [Self {
        count: 5_000_000,
        arm: "depth-5m",
        memory: "queued_bytes-5m",
        relayed: "relayed-5m",
    }];
}

/// A counter of the worker: rows of bookings that have a place.
const PERSISTED: &str = r#"slotrush_bookings_persisted_total{state="booked",reason="none"}"#;
/// How long the bookings may take to come.
const FILL_MAX: Duration = Duration::from_mins(13);
/// How long no row may come while a queue is emptied.
const STILL_MAX: Duration = Duration::from_mins(1);
/// How often to tell how far it is.
const TELL_EVERY: Duration = Duration::from_secs(10);

impl Rig<'_> {
    /// Lets bookings wait for a worker that is stopped, then lets it go.
    pub(super) async fn depth(&mut self, depths: &[Depth]) -> Result<()> {
        for Depth { count, arm, memory, relayed } in depths {
            (self.say)(&format!("a queue of {count} bookings"));
            // To fill the longest takes nearly as long as tokens last.
            self.world.renew_tokens()?;
            self.greet().await?;
            let patients = self.world.crowd.len();
            let sessions = u32::try_from(count.div_ceil(patients))?;
            let offer = self.world.offer(sessions, 1, u32::try_from(patients)?).await?;
            let crowd = Bookings::new(&self.world.crowd, "/v1/bookings", &offer.slots, 1, 0);
            let (after, broker) = (self.newest().await?, self.world.rabbit_pid());
            let before = resident_bytes(broker);
            let persisted = self.counted(PERSISTED).await?;
            self.world.worker.pause();
            let plan = closed::Plan {
                address: local(self.world.port),
                connections: RUSH,
                warm_up: Duration::ZERO,
                duration: FILL_MAX,
                drain: DRAIN_MAX,
            };
            let filled = closed::run(plan, crowd.only(*count)).await;
            let grown = resident_bytes(broker).saturating_sub(before);
            self.world.worker.resume();
            let (report, crowd) = filled?;
            let accepted = report.all().accepted;
            ensure!(accepted == *count as u64, "{accepted} accepted: {}", crowd.complaint());
            (self.say)(&format!("the worker goes on, with {count} bookings to persist"));
            let before = self.relayed().await?;
            self.emptied(persisted + accepted).await?;
            self.drained(arm, after, accepted).await?;
            self.results.note(memory, per(grown, *count));
            self.results.note(relayed, per(self.relayed().await? - before, *count));
        }
        Ok(())
    }

    /// Waits until the worker has persisted so many of all, and tells how far it is.
    async fn emptied(&self, end: u64) -> Result<()> {
        let (mut waiting, mut moved_at) = (u64::MAX, Instant::now());
        while waiting > 0 {
            let now = end.saturating_sub(self.counted(PERSISTED).await?);
            if now < waiting {
                moved_at = Instant::now();
                (self.say)(&format!("{now} bookings wait"));
            }
            ensure!(moved_at.elapsed() < STILL_MAX, "{now} bookings wait, and none is persisted");
            waiting = now;
            if waiting > 0 {
                tokio::time::sleep(TELL_EVERY).await;
            }
        }
        Ok(())
    }

    /// Bookings that the worker's relay has published so far.
    async fn relayed(&self) -> Result<u64> {
        self.counted("slotrush_relay_published_total").await
    }

    /// A counter of the worker.
    async fn counted(&self, name: &str) -> Result<u64> {
        let metrics = self.world.worker.metrics().await?;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        // A counter appears when it first counts.
        value.map_or(Ok(0), |value| Ok(value.trim().parse()?))
    }
}
