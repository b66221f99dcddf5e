//! What idle status streams take of the gateway: ten, and ten thousand.

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::{cpu_used, resident_bytes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{CONNECTIONS, DRAIN_MAX, Rig, local};
use crate::load::closed;
use crate::world::{Bookings, Taken};

/// How many, and the names of the figures: memory of each, and processor time of each in a second.
const STREAMS: [(usize, &str, &str); 2] = [
    (10, "stream_kib-10", "stream_us_per_s-10"),
    (10_000, "stream_kib-10k", "stream_us_per_s-10k"),
];
/// How long the bookings to follow may take.
const BOOK_MAX: Duration = Duration::from_mins(1);
/// How long the first event may take, and how much of it tells that it has come.
const FIRST_MAX: Duration = Duration::from_secs(10);
const FIRST: &[u8] = b"event: status";
/// How long the streams are looked at.
const IDLE: Duration = Duration::from_secs(5);

/// What each stream took.
struct Taking {
    kib: f64,
    us_per_s: f64,
}

impl Rig<'_> {
    /// Follows bookings that the worker does not come to.
    pub(super) async fn streams(&mut self) -> Result<()> {
        for (count, memory, processor) in STREAMS {
            (self.say)(&format!("growth: {count} status streams"));
            let (offer, after) = (self.hot_slot().await?, self.newest().await?);
            let (tell, told) = mpsc::channel(count);
            let crowd = Bookings::new(&self.world.crowd, "/v1/bookings", &offer.slots, 1, 0);
            self.world.worker.pause();
            let streamed = self.streamed(crowd.only(count).telling(tell), told, count).await;
            self.world.worker.resume();
            let Taking { kib, us_per_s } = streamed?;
            self.balanced(after, count as u64).await?;
            (self.say)(&format!("{count} streams: {kib:.1} KiB and {us_per_s:.1} µs/s each"));
            self.results.note(memory, kib);
            self.results.note(processor, us_per_s);
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53")]
    async fn streamed(
        &self,
        crowd: Bookings,
        mut told: mpsc::Receiver<Taken>,
        count: usize,
    ) -> Result<Taking> {
        let plan = closed::Plan {
            address: local(self.world.port),
            connections: CONNECTIONS,
            warm_up: Duration::ZERO,
            duration: BOOK_MAX,
            drain: DRAIN_MAX,
        };
        let (report, crowd) = closed::run(plan, crowd).await?;
        ensure!(report.all().accepted == count as u64, "not all booked: {}", crowd.complaint());
        // With it goes who tells.
        drop(crowd);
        let gateway = self.world.gateway.id().pid;
        let before = resident_bytes(gateway);
        let mut streams = Vec::with_capacity(count);
        while let Some(taken) = told.recv().await {
            streams.push(timeout(FIRST_MAX, self.stream(&taken)).await??);
        }
        ensure!(streams.len() == count, "{} of {count} bookings were told", streams.len());
        let grown = resident_bytes(gateway).saturating_sub(before);
        let used = cpu_used(gateway);
        sleep(IDLE).await;
        let used = cpu_used(gateway).saturating_sub(used);
        let each = count as f64;
        Ok(Taking {
            kib: grown as f64 / 1_024.0 / each,
            us_per_s: used.as_secs_f64() * 1e6 / IDLE.as_secs_f64() / each,
        })
    }

    /// Opens a stream and reads its first event.
    async fn stream(&self, taken: &Taken) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(local(self.world.port)).await?;
        stream.write_all(&self.world.crowd.events(taken.patient, &taken.id)).await?;
        let mut read = Vec::new();
        while memchr::memmem::find(&read, FIRST).is_none() {
            ensure!(stream.read_buf(&mut read).await? > 0, "{}", String::from_utf8_lossy(&read));
        }
        Ok(stream)
    }
}
