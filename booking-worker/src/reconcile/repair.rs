//! Telling Redis what became of bookings, where whoever did it could not.
//!
//! A cancel changes PostgreSQL alone, and a settling may fail. Without this a patient who cancelled
//! would be told "already booked" for ever.

use std::time::{Duration, Instant};

use booking::{Booking, State, UnixMs};
use ledger::booking_row::BookingRow;

use super::Error;
use super::partition::{PartitionReconciler, Repaired};

const EVERY: Duration = Duration::from_millis(500);
/// Changes are read again this far back: one that committed late carries an earlier time.
const OVERLAP_MS: i64 = 10_000;
/// Where a reconciler that just started begins.
const START_BACK_MS: i64 = 24 * 60 * 60 * 1000;
const ROWS_PER_PAGE: u16 = 1000;
/// Pages in one round; what is left comes in the next.
const PAGES_MAX: usize = 10;

impl PartitionReconciler {
    /// Settles what changed since the last time.
    pub async fn repair(&mut self) -> Result<(), Error> {
        if self.repaired.due_at.is_some_and(|at| Instant::now() < at) {
            return Ok(());
        }
        let mut since = match self.repaired.watermark {
            Some(watermark) => watermark.plus_ms(-OVERLAP_MS),
            None => self.servers.clock.now().plus_ms(-START_BACK_MS),
        };
        for _ in 0..PAGES_MAX {
            let rows =
                self.servers.ledger.changed_since(self.partition, since, ROWS_PER_PAGE).await?;
            let fresh = self.repaired.fresh(&rows);
            if !fresh.is_empty() {
                self.servers.inventory.settle(self.partition, &fresh).await?;
            }
            let Some(last) = rows.last().map(|row| row.changed_at) else { break };
            self.repaired.note(&rows);
            if rows.len() < usize::from(ROWS_PER_PAGE) {
                break;
            }
            // A page of one and the same millisecond must not be read for ever.
            since = if last > since { last } else { since.plus_ms(1) };
        }
        self.repaired.due_at = Some(Instant::now() + EVERY);
        Ok(())
    }
}

impl Repaired {
    /// Picks what Redis was not told yet.
    fn fresh(&self, rows: &[BookingRow]) -> Vec<(Booking, bool)> {
        let is_told = |row: &&BookingRow| {
            self.versions.get(&row.booking.id).is_some_and(|(version, _)| *version == row.version)
        };
        // A booking given back is told all through the overlap: it is what a late "live" of the
        // consumer would undo.
        rows.iter()
            .filter(|row| row.state == State::Cancelled || !is_told(row))
            .map(|row| (row.booking.clone(), row.state.is_live()))
            .collect()
    }

    /// Remembers what was told, as long as it can be read again.
    fn note(&mut self, rows: &[BookingRow]) {
        for row in rows {
            self.versions.insert(row.booking.id, (row.version, row.changed_at));
        }
        let latest = rows.iter().map(|row| row.changed_at).max().unwrap_or_default();
        let watermark = self.watermark.map_or(latest, |watermark| watermark.max(latest));
        let horizon = UnixMs(watermark.0 - OVERLAP_MS - 1);
        self.versions.retain(|_, (_, changed_at)| *changed_at >= horizon);
        self.watermark = Some(watermark);
    }
}

#[cfg(test)]
mod tests {
    use booking::{AccountId, BookingId, Digest, Epoch, PatientId, SlotId};

    use super::*;

    fn row(id: i64, state: State, version: i64, changed_at: i64) -> BookingRow {
        let (slot, patient) = (SlotId::from(512), PatientId::from(id));
        let booking = Booking {
            id: BookingId::from(id),
            epoch: Epoch(1),
            slot,
            patient,
            account: AccountId::from(1),
            key: Digest::of_key("k"),
            request: Digest::of_request(slot, patient),
            accepted_at: UnixMs(0),
        };
        BookingRow {
            booking,
            state,
            reason: None,
            number: Some(1),
            version,
            persisted_at: UnixMs(0),
            changed_at: UnixMs(changed_at),
        }
    }

    fn ids(fresh: &[(Booking, bool)]) -> Vec<(i64, bool)> {
        fresh.iter().map(|(booking, is_live)| (booking.id.get(), *is_live)).collect()
    }

    #[test]
    fn a_change_is_told_once_and_a_cancel_all_through_the_overlap() {
        let mut repaired = Repaired::default();
        let first = [row(1, State::Booked, 1, 100), row(2, State::Booked, 1, 101)];
        assert_eq!(ids(&repaired.fresh(&first)), [(1, true), (2, true)]);
        repaired.note(&first);
        assert_eq!(ids(&repaired.fresh(&first)), []);
        let cancelled = [row(2, State::Cancelled, 2, 150)];
        for _ in 0..2 {
            assert_eq!(ids(&repaired.fresh(&cancelled)), [(2, false)]);
            repaired.note(&cancelled);
        }
        assert_eq!(repaired.watermark, Some(UnixMs(150)));
    }

    #[test]
    fn what_cannot_be_read_again_is_forgotten() {
        let mut repaired = Repaired::default();
        repaired.note(&[row(1, State::Booked, 1, 100)]);
        repaired.note(&[row(2, State::Booked, 1, 101 + OVERLAP_MS)]);
        assert_eq!(repaired.versions.len(), 2);
        repaired.note(&[row(3, State::Booked, 1, 102 + OVERLAP_MS)]);
        assert_eq!(repaired.versions.len(), 2);
        assert!(!repaired.versions.contains_key(&BookingId::from(1)));
    }
}
