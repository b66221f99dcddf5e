//! How fast the queue of each partition moves, for honest positions and estimates.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use booking::{Epoch, Partition};
use inventory::Inventory;
use tokio::time::Instant;

use crate::admission::memory::Accepted;

const SAMPLE_EVERY: Duration = Duration::from_millis(250);
/// Weight of the newest sample in the rate.
const NEWEST: f64 = 0.3;
/// A sample older than this says nothing of now.
const SAMPLE_AGE_MAX: Duration = Duration::from_secs(3);
/// A line that has not moved for so long stands still: nobody knows for how long.
const HALT: Duration = Duration::from_secs(1);
/// No estimate beyond this: it would be a guess.
const ESTIMATE_MS_MAX: f64 = 600_000.0;

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1, the next to be settled.
    pub position: u64,
    /// How long it may take, if that is known.
    pub estimated_wait_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    epoch: Epoch,
    settled: u64,
    /// When it was seen to move.
    moved_at: Instant,
    per_second: Option<f64>,
}

#[derive(Debug, Default)]
struct Line {
    is_wanted: AtomicBool,
    sample: RwLock<Option<Sample>>,
}

/// The lines of all partitions, looked at only while somebody asks.
#[derive(Debug)]
pub struct Progress(Vec<Line>);

impl Default for Progress {
    fn default() -> Self {
        let partitions = usize::from(booking::partition::PARTITIONS_MAX);
        Self((0..partitions).map(|_| Line::default()).collect())
    }
}

impl Progress {
    /// Tells where an accepted booking stands in its line; `None` if that is not known.
    pub fn place(&self, accepted: &Accepted) -> Option<Place> {
        let ticket = accepted.ticket?;
        let line = &self.0[usize::from(accepted.booking.id.partition().get())];
        line.is_wanted.store(true, Ordering::Relaxed);
        let sample = *line.sample.read().unwrap_or_else(PoisonError::into_inner);
        let Some(sample) = sample.filter(|sample| sample.at.elapsed() < SAMPLE_AGE_MAX) else {
            let position = ticket.number.saturating_sub(ticket.settled).max(1);
            return Some(Place { position, estimated_wait_ms: None });
        };
        if sample.epoch != accepted.booking.epoch {
            // The count began anew: the ticket says nothing any more.
            return None;
        }
        let settled = sample.settled.max(ticket.settled);
        let position = ticket.number.saturating_sub(settled).max(1);
        let moves = sample.at.duration_since(sample.moved_at) < HALT;
        let per_second = sample.per_second.filter(|_| moves);
        let estimated_wait_ms = per_second.and_then(|rate| estimate(position, rate));
        Some(Place { position, estimated_wait_ms })
    }

    /// Samples the lines somebody asks for, for ever.
    pub async fn sample(&self, inventory: &Inventory) {
        loop {
            tokio::time::sleep(SAMPLE_EVERY).await;
            for (number, line) in (0_u8..).zip(&self.0) {
                if !line.is_wanted.swap(false, Ordering::Relaxed) {
                    continue;
                }
                let Ok(seen) = inventory.inspect(Partition::new(number)).await else { continue };
                if let Some(head) = seen.ledger {
                    line.learn(head.epoch, head.settled, Instant::now());
                }
            }
        }
    }
}

impl Line {
    fn learn(&self, epoch: Epoch, settled: u64, at: Instant) {
        let mut sample = self.sample.write().unwrap_or_else(PoisonError::into_inner);
        let before = sample
            .filter(|before| before.epoch == epoch && before.settled <= settled)
            .filter(|before| at.duration_since(before.at) < SAMPLE_AGE_MAX);
        let per_second = before.map(|before| {
            let seconds = at.duration_since(before.at).as_secs_f64().max(0.001);
            let moved = u32::try_from(settled - before.settled).unwrap_or(u32::MAX);
            let now = f64::from(moved) / seconds;
            before.per_second.map_or(now, |rate| rate * (1.0 - NEWEST) + now * NEWEST)
        });
        let stood = before.filter(|before| before.settled == settled);
        let moved_at = stood.map_or(at, |before| before.moved_at);
        *sample = Some(Sample { at, epoch, settled, moved_at, per_second });
    }
}

fn estimate(position: u64, per_second: f64) -> Option<u64> {
    let position = f64::from(u32::try_from(position).unwrap_or(u32::MAX));
    let ms = position / per_second * 1000.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and ten minutes"
    )]
    (per_second > 0.0 && ms <= ESTIMATE_MS_MAX).then_some(ms.max(1.0) as u64)
}

#[cfg(test)]
mod tests {
    use booking::{AccountId, Digest, PatientId, SlotId, UnixMs};

    use super::*;
    use crate::admission::Wish;
    use crate::admission::memory::Ticket;

    fn accepted(epoch: i64) -> Accepted {
        let wish = Wish::new(
            AccountId::from(1),
            SlotId::from(256),
            PatientId::from(1),
            Digest::of_key("k"),
        );
        let booking = wish.booking(1.into(), Epoch(epoch), UnixMs(0));
        Accepted::new(booking, Some(Ticket { number: 100, settled: 20 }))
    }

    #[test]
    fn the_position_falls_with_what_is_settled_and_never_below_one() {
        let progress = Progress::default();
        let place = |progress: &Progress| progress.place(&accepted(3)).expect("a place");
        assert_eq!(place(&progress), Place { position: 80, estimated_wait_ms: None });
        let start = Instant::now();
        progress.0[0].learn(Epoch(3), 40, start);
        assert_eq!(place(&progress), Place { position: 60, estimated_wait_ms: None });
        progress.0[0].learn(Epoch(3), 60, start + Duration::from_secs(1));
        assert_eq!(place(&progress), Place { position: 40, estimated_wait_ms: Some(2_000) });
        progress.0[0].learn(Epoch(3), 500, start + Duration::from_secs(2));
        assert_eq!(place(&progress).position, 1);
    }

    #[test]
    fn another_epoch_or_a_halt_gives_no_false_hope() {
        let progress = Progress::default();
        let start = Instant::now();
        progress.0[0].learn(Epoch(3), 40, start);
        progress.0[0].learn(Epoch(3), 40, start + Duration::from_secs(1));
        let place = progress.place(&accepted(3)).expect("a place");
        assert_eq!(place.estimated_wait_ms, None);
        assert_eq!(progress.place(&accepted(2)), None);
    }
}
