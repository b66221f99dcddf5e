//! How fast the queue of each partition moves, for honest positions and estimates.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use booking::{Epoch, Partition};
use inventory::Inventory;
use tokio::time::Instant;

use crate::admission::memory::Accepted;

const SAMPLE_EVERY: Duration = Duration::from_millis(250);
/// Weight of the newest window in the rate, once there are ten: the worker settles hundreds at once,
/// so that a slow line moves by jerks.
const NEWEST: f64 = 0.1;
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
    pace: Pace,
}

/// How fast a line moves, by the windows between two samples.
#[derive(Clone, Copy, Debug)]
enum Pace {
    /// It was not seen to move, or not for [`HALT`].
    Stands,
    /// It moved in the newest window, for an unknown part of it: as a rate, that would tell the
    /// first patients of a release to come back far too late.
    Began,
    /// The average of the windows after that.
    Moves { per_second: f64, windows: u32 },
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
        let estimated_wait_ms = match sample.pace {
            Pace::Moves { per_second, .. } => estimate(position, per_second),
            Pace::Stands | Pace::Began => None,
        };
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
        let stood = before.filter(|before| before.settled == settled);
        let moved_at = stood.map_or(at, |before| before.moved_at);
        let pace = match before {
            Some(before) if at.duration_since(moved_at) < HALT => {
                let seconds = at.duration_since(before.at).as_secs_f64().max(0.001);
                let moved = u32::try_from(settled - before.settled).unwrap_or(u32::MAX);
                before.pace.after(f64::from(moved) / seconds)
            }
            Some(_) | None => Pace::Stands,
        };
        *sample = Some(Sample { at, epoch, settled, moved_at, pace });
    }
}

impl Pace {
    /// The pace when a further window moved at `newest` a second.
    fn after(self, newest: f64) -> Self {
        match self {
            Self::Stands if newest > 0.0 => Self::Began,
            Self::Stands => Self::Stands,
            Self::Began => Self::Moves { per_second: newest, windows: 1 },
            Self::Moves { per_second, windows } => {
                let windows = windows.saturating_add(1);
                let weight = NEWEST.max(1.0 / f64::from(windows));
                let per_second = per_second * (1.0 - weight) + newest * weight;
                Self::Moves { per_second, windows }
            }
        }
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

    /// A place in a line whose settled count was seen at these times.
    fn place_after(seen: &[(u64, u64)]) -> Place {
        let (progress, start) = (Progress::default(), Instant::now());
        for &(ms, settled) in seen {
            progress.0[0].learn(Epoch(3), settled, start + Duration::from_millis(ms));
        }
        progress.place(&accepted(3)).expect("a place")
    }

    #[test]
    fn the_position_falls_with_what_is_settled_and_never_below_one() {
        let unknown = |position| Place { position, estimated_wait_ms: None };
        let place = |position, ms| Place { position, estimated_wait_ms: Some(ms) };
        assert_eq!(place_after(&[]), unknown(80));
        assert_eq!(place_after(&[(0, 30)]), unknown(70));
        assert_eq!(place_after(&[(0, 30), (500, 40)]), unknown(60));
        assert_eq!(place_after(&[(0, 30), (500, 40), (1_000, 50)]), place(50, 2_500));
        assert_eq!(place_after(&[(0, 30), (500, 40), (1_000, 500)]).position, 1);
    }

    #[test]
    fn the_window_in_which_a_line_began_says_nothing_of_its_pace() {
        // It stands until 490 ms, then moves by 100 a second.
        let began = [(0, 20), (250, 20), (500, 21)];
        assert_eq!(place_after(&began).estimated_wait_ms, None);
        let moves = [&began[..], &[(750, 46)]].concat();
        assert_eq!(place_after(&moves), Place { position: 54, estimated_wait_ms: Some(540) });
    }

    #[test]
    fn the_first_windows_weigh_the_same_and_later_ones_fade() {
        let pace_after =
            |windows: &[f64]| windows.iter().fold(Pace::Stands, |pace, newest| pace.after(*newest));
        let is_near = |pace, expected: f64| matches!(pace, Pace::Moves { per_second, .. } if (per_second - expected).abs() < 1e-9);
        assert!(is_near(pace_after(&[1.0, 30.0, 60.0, 90.0]), 60.0));
        let ten_and_another = [&[1.0][..], &[60.0; 10], &[160.0]].concat();
        assert!(is_near(pace_after(&ten_and_another), 70.0));
    }

    #[test]
    fn another_epoch_or_a_halt_gives_no_false_hope() {
        let moves = [(0, 20), (500, 30), (1_000, 40)];
        assert_eq!(place_after(&moves).estimated_wait_ms, Some(3_000));
        let halts = [&moves[..], &[(1_500, 40), (2_000, 40)]].concat();
        assert_eq!(place_after(&halts).estimated_wait_ms, None);
        let goes_on = [&halts[..], &[(2_500, 41)]].concat();
        assert_eq!(place_after(&goes_on).estimated_wait_ms, None);
        let progress = Progress::default();
        progress.0[0].learn(Epoch(3), 40, Instant::now());
        assert_eq!(progress.place(&accepted(2)), None);
    }
}
