//! How fast the queue of each partition moves, for honest positions and estimates.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use booking::{Epoch, Partition};
use inventory::Inventory;
use tokio::time::Instant;

use crate::admission::memory::Accepted;

const SAMPLE_EVERY: Duration = Duration::from_millis(250);
/// For so many samples a line is looked at after somebody asked: whoever asks again then finds its pace known.
const SAMPLES_AFTER: u8 = 40;
/// The rate is that of so long: the worker settles hundreds at once, so that a slow line moves by jerks.
const AVERAGED_S: f64 = 2.5;
/// A sample older than this says nothing of now.
const SAMPLE_AGE_MAX: Duration = Duration::from_secs(3);
/// A line that has not moved for so long stands still: nobody knows for how long.
const HALT: Duration = Duration::from_secs(3);
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
    held: u64,
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
    /// All who waited when the newest window began were settled in it, and maybe others: `moved` in all. That
    /// tells how many come, not how many could be settled, so nothing of who stands further back.
    Short { moved: u64, newest: Average },
    /// More waited than were settled in each window since it began to move.
    Long(Average),
}

/// How much a line moved in how long, from one move to another: what was before the first, or comes after the
/// last, is of unknown length. As a rate, it would tell the first patients of a release to come back far too
/// late.
#[derive(Clone, Copy, Debug, Default)]
struct Average {
    moved: f64,
    seconds: f64,
}

/// Between two samples.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// Waited when it began.
    waited: u64,
    /// Were settled in it.
    moved: u64,
    lasted: Duration,
    /// From the last move before it to its end: longer, if the line did not move in the window before.
    since_moved: Duration,
}

#[derive(Debug, Default)]
struct Line {
    /// Samples to take.
    wanted: AtomicU8,
    sample: RwLock<Option<Sample>>,
}

/// The lines of all partitions, looked at only while somebody asks, and for ten seconds after.
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
        line.wanted.store(SAMPLES_AFTER, Ordering::Relaxed);
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
            Pace::Long(average) => estimate(position, average),
            Pace::Short { moved, newest } if position <= moved => estimate(position, newest),
            Pace::Stands | Pace::Short { .. } => None,
        };
        Some(Place { position, estimated_wait_ms })
    }

    /// Samples the lines somebody asks for, for ever.
    pub async fn sample(&self, inventory: &Inventory) {
        loop {
            tokio::time::sleep(SAMPLE_EVERY).await;
            for (number, line) in (0_u8..).zip(&self.0) {
                // Who asks at this very moment sets it anew.
                let less = |wanted: u8| wanted.checked_sub(1);
                let is_wanted =
                    line.wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok();
                if !is_wanted {
                    continue;
                }
                let Ok(seen) = inventory.inspect(Partition::new(number)).await else { continue };
                if let Some(head) = seen.ledger {
                    line.learn(head.epoch, head.held, head.settled, Instant::now());
                }
            }
        }
    }
}

impl Line {
    fn learn(&self, epoch: Epoch, held: u64, settled: u64, at: Instant) {
        let mut sample = self.sample.write().unwrap_or_else(PoisonError::into_inner);
        let before = sample
            .filter(|before| before.epoch == epoch && before.settled <= settled)
            .filter(|before| at.duration_since(before.at) < SAMPLE_AGE_MAX);
        let stood = before.filter(|before| before.settled == settled);
        let moved_at = stood.map_or(at, |before| before.moved_at);
        let pace = match before {
            Some(before) if at.duration_since(moved_at) < HALT => before.pace.after(Window {
                waited: before.held.saturating_sub(before.settled),
                moved: settled - before.settled,
                lasted: at.duration_since(before.at),
                since_moved: at.duration_since(before.moved_at),
            }),
            Some(_) | None => Pace::Stands,
        };
        *sample = Some(Sample { at, epoch, held, settled, moved_at, pace });
    }
}

impl Pace {
    fn after(self, window: Window) -> Self {
        let newest = Average::default().and(window.moved, window.lasted);
        match self {
            _ if window.waited == 0 && window.moved == 0 => Self::Stands,
            _ if window.moved >= window.waited => Self::Short { moved: window.moved, newest },
            _ if window.moved == 0 => self.unmoved(),
            Self::Stands => Self::Long(Average::default()),
            Self::Short { .. } => Self::Long(newest),
            Self::Long(average) => Self::Long(average.and(window.moved, window.since_moved)),
        }
    }

    /// The pace when somebody waited and nobody was settled: it may be a jerk that is not over.
    fn unmoved(self) -> Self {
        match self {
            Self::Stands | Self::Short { .. } => Self::Stands,
            Self::Long(average) => Self::Long(average),
        }
    }
}

impl Average {
    fn and(self, moved: u64, within: Duration) -> Self {
        let moved = self.moved + f64::from(u32::try_from(moved).unwrap_or(u32::MAX));
        let seconds = self.seconds + within.as_secs_f64();
        let kept = (AVERAGED_S / seconds).min(1.0);
        Self { moved: moved * kept, seconds: seconds * kept }
    }
}

fn estimate(position: u64, Average { moved, seconds }: Average) -> Option<u64> {
    let position = f64::from(u32::try_from(position).unwrap_or(u32::MAX));
    let ms = position / moved * seconds * 1000.0;
    let is_known = moved > 0.0 && seconds > 0.0 && ms <= ESTIMATE_MS_MAX;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and ten minutes"
    )]
    is_known.then_some(ms.max(1.0) as u64)
}

#[cfg(test)]
mod tests {
    use booking::{AccountId, Digest, PatientId, SlotId, UnixMs};

    use super::*;
    use crate::admission::Wish;
    use crate::admission::memory::Ticket;

    fn accepted(epoch: i64) -> Accepted {
        numbered(epoch, Ticket { number: 100, settled: 20 })
    }

    /// Who got this number before anybody was settled.
    fn with_number(number: u64) -> Accepted {
        numbered(3, Ticket { number, settled: 0 })
    }

    fn numbered(epoch: i64, ticket: Ticket) -> Accepted {
        let wish = Wish::new(
            AccountId::from(1),
            SlotId::from(256),
            PatientId::from(1),
            Digest::of_key("k"),
        );
        let booking = wish.booking(1.into(), Epoch(epoch), UnixMs(0));
        Accepted::new(booking, Some(ticket))
    }

    /// Who waits in a line, and how many, when it was seen like this: at ms, held and settled.
    fn line(seen: &[(u64, u64, u64)]) -> Progress {
        let (progress, start) = (Progress::default(), Instant::now());
        for &(ms, held, settled) in seen {
            progress.0[0].learn(Epoch(3), held, settled, start + Duration::from_millis(ms));
        }
        progress
    }

    /// The place of the hundredth in that line.
    fn place(seen: &[(u64, u64, u64)]) -> Place {
        line(seen).place(&accepted(3)).expect("a place")
    }

    fn estimate_ms(seen: &[(u64, u64, u64)]) -> Option<u64> {
        place(seen).estimated_wait_ms
    }

    const MOVES: [(u64, u64, u64); 3] = [(0, 100, 20), (500, 100, 30), (1_000, 100, 40)];

    #[test]
    fn the_position_falls_with_what_is_settled_and_never_below_one() {
        let unknown = |position| Place { position, estimated_wait_ms: None };
        assert_eq!(place(&[]), unknown(80));
        assert_eq!(place(&MOVES[..1]), unknown(80));
        assert_eq!(place(&MOVES[..2]), unknown(70));
        assert_eq!(place(&MOVES), Place { position: 60, estimated_wait_ms: Some(3_000) });
        assert_eq!(place(&[(0, 600, 30), (500, 600, 500)]).position, 1);
    }

    #[test]
    fn the_window_in_which_a_line_began_says_nothing_of_its_pace() {
        // It stands until 490 ms, then moves by 100 a second.
        let began = [(0, 100, 20), (250, 100, 20), (500, 100, 21)];
        assert_eq!(estimate_ms(&began), None);
        let moves = [&began[..], &[(750, 100, 46)]].concat();
        assert_eq!(place(&moves), Place { position: 54, estimated_wait_ms: Some(540) });
    }

    /// The rate of a line that is soon empty is that at which patients come.
    #[test]
    fn a_rush_is_not_told_the_pace_of_the_few_who_came_before() {
        // One each quarter of a second, and then everybody.
        let mut seen: Vec<_> = (0..12).map(|n| (n * 250, n + 1, n)).collect();
        assert_eq!(estimate_ms(&seen), None, "the hundredth is not among them");
        seen.push((3_000, 1_012, 12));
        assert_eq!(estimate_ms(&seen), None);
        seen.push((3_250, 1_012, 37));
        assert_eq!(place(&seen), Place { position: 63, estimated_wait_ms: Some(630) });
    }

    #[test]
    fn who_stands_in_a_short_line_is_told_that_it_is_short() {
        assert_eq!(estimate_ms(&[(0, 50, 0), (250, 150, 60)]), Some(166));
        assert_eq!(estimate_ms(&[(0, 50, 0), (250, 950, 50)]), Some(250));
        assert_eq!(estimate_ms(&[(0, 40, 0), (250, 950, 49)]), None);
        let idle = [(0, 0, 0), (2_500, 100, 0), (2_750, 100, 100)];
        assert_eq!(estimate_ms(&idle), Some(2), "however long nobody came before");
    }

    #[test]
    fn what_is_longer_ago_fades() {
        // A hundred a second for ten seconds, then fifty.
        let quick = (0..=40).map(|n| (n * 250, 9_000, n * 25));
        let slow = (1..=10).map(|n| (10_000 + n * 250, 9_000, 1_000 + n * 12));
        let seen: Vec<_> = quick.chain(slow).collect();
        let ms =
            |seen| line(seen).place(&with_number(9_000)).and_then(|place| place.estimated_wait_ms);
        assert_eq!(ms(&seen[..=40]), Some(80_000));
        let slower = ms(&seen).expect("it moves");
        assert!((110_000..=140_000).contains(&slower), "{slower}: 160,000 if that goes on");
    }

    #[test]
    fn a_line_that_moves_by_jerks_keeps_its_pace() {
        // Two each second, at once.
        let seen: Vec<_> = (0..=20).map(|n| (n * 250, 100, n / 4 * 2)).collect();
        for (until, wait_ms) in
            [(7, None), (8, Some(48_000)), (9, Some(48_000)), (20, Some(45_000))]
        {
            let progress = line(&seen[..=until]);
            let place = progress.place(&with_number(100)).expect("a place");
            assert_eq!(place.estimated_wait_ms, wait_ms, "{until}");
        }
    }

    #[test]
    fn another_epoch_a_halt_or_an_old_sample_gives_no_false_hope() {
        let then = |ms, held, settled| estimate_ms(&[&MOVES[..], &[(ms, held, settled)]].concat());
        assert!(then(3_900, 100, 40).is_some(), "it may go on");
        assert!(then(3_999, 100, 41).is_some(), "it went on");
        assert_eq!(then(4_000, 100, 41), None, "nobody looked for three seconds");
        let halts = [&MOVES[..], &[(2_500, 100, 40), (4_000, 100, 40)]].concat();
        assert_eq!(estimate_ms(&halts), None);
        assert_eq!(estimate_ms(&[&halts[..], &[(4_250, 100, 41)]].concat()), None);
        let progress = line(&MOVES);
        assert_eq!(progress.place(&accepted(2)), None);
        progress.0[0].learn(Epoch(4), 100, 60, Instant::now() + Duration::from_millis(1_250));
        let place = progress.place(&accepted(4)).expect("a place");
        assert_eq!(place.estimated_wait_ms, None, "the count began anew");
    }
}
