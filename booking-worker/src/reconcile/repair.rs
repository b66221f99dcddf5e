//! Telling Redis which bookings were given back.
//!
//! A cancel changes PostgreSQL alone. Without this a patient who cancelled would be told "already
//! booked" for ever. What became durable is not this role's: the consumer settles it, and what the
//! consumer could not settle stands in the outbox until the relay has.

use std::time::{Duration, Instant};

use booking::{Booking, UnixMs};

use super::Error;
use super::partition::{PartitionReconciler, Repaired};

const EVERY: Duration = Duration::from_millis(500);
/// Changes are told again this far back: one that committed late carries an earlier time, and a
/// late "live" of the consumer may have undone what was told.
const OVERLAP_MS: i64 = 10_000;
/// Where a reconciler that just started begins.
const START_BACK_MS: i64 = 24 * 60 * 60 * 1000;
const ROWS_PER_PAGE: u16 = 1000;
/// Pages in one round; the next goes on where it ended.
const PAGES_MAX: usize = 10;

impl PartitionReconciler {
    /// Settles what was given back since the last time.
    pub async fn repair(&mut self) -> Result<(), Error> {
        if self.repaired.due_at.is_some_and(|at| Instant::now() < at) {
            return Ok(());
        }
        for _ in 0..PAGES_MAX {
            let since = self.repaired.begin(self.servers.clock.now());
            let page =
                self.servers.ledger.given_back_since(self.partition, since, ROWS_PER_PAGE).await?;
            if let Some((_, last)) = page.last() {
                let last = *last;
                let is_full = page.len() == usize::from(ROWS_PER_PAGE);
                let dead: Vec<(Booking, bool)> =
                    page.into_iter().map(|(booking, _)| (booking, false)).collect();
                self.servers.inventory.settle(self.partition, &dead).await?;
                self.repaired.note(since, last, is_full);
            } else {
                self.repaired.cursor = None;
            }
            if self.repaired.cursor.is_none() {
                break;
            }
        }
        self.repaired.due_at = Some(Instant::now() + EVERY);
        Ok(())
    }
}

impl Repaired {
    /// Tells from when on the next page is read.
    fn begin(&self, now: UnixMs) -> UnixMs {
        let walk = self.watermark.map(|watermark| watermark.plus_ms(-OVERLAP_MS));
        self.cursor.or(walk).unwrap_or_else(|| now.plus_ms(-START_BACK_MS))
    }

    /// Notes that a page from `since` to `last` was told.
    fn note(&mut self, since: UnixMs, last: UnixMs, is_full: bool) {
        self.watermark = self.watermark.max(Some(last));
        // A page of one and the same millisecond must not be read for ever.
        self.cursor = is_full.then(|| if last > since { last } else { since.plus_ms(1) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(100_000_000);

    #[test]
    fn a_walk_begins_a_day_ago_and_then_an_overlap_before_the_latest() {
        let mut repaired = Repaired::default();
        assert_eq!(repaired.begin(NOW), NOW.plus_ms(-START_BACK_MS));
        repaired.note(UnixMs(0), UnixMs(50_000_000), false);
        assert_eq!(repaired.begin(NOW), UnixMs(50_000_000 - OVERLAP_MS));
        repaired.note(repaired.begin(NOW), UnixMs(49_999_999), false);
        assert_eq!(repaired.watermark, Some(UnixMs(50_000_000)), "time does not go back");
    }

    #[test]
    fn more_than_a_round_can_take_is_walked_through_to_its_end() {
        let mut repaired = Repaired::default();
        let changes: Vec<UnixMs> = (0..30).map(UnixMs).collect();
        let mut told = Vec::new();
        for _ in 0..20 {
            let since = repaired.begin(UnixMs(0));
            let page: Vec<UnixMs> =
                changes.iter().copied().filter(|at| *at >= since).take(4).collect();
            let last = *page.last().expect("a page");
            told.extend(page.iter().copied());
            repaired.note(since, last, page.len() == 4);
            if repaired.cursor.is_none() {
                break;
            }
        }
        told.dedup();
        assert_eq!(told, changes);
        assert_eq!(repaired.watermark, Some(UnixMs(29)));
    }

    #[test]
    fn a_page_of_one_millisecond_is_passed() {
        let mut repaired = Repaired::default();
        repaired.note(UnixMs(7), UnixMs(7), true);
        assert_eq!(repaired.cursor, Some(UnixMs(8)));
    }
}
