//! The changes of the ledger's bookings, each read once and told to who follow them: what
//! is remembered of bookings, and who waits for a booking's end.
//!
//! A row's time of change is taken before its commit, so rows do not appear in the order of their
//! times. Every look therefore reaches back behind the newest time seen: first with an imprint of what
//! is there, and only if that is not of the rows known already, with a question that names them.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use booking::{BookingId, Clock, UnixMs};
use ledger::Ledger;
use ledger::booking_row::Change;
use ledger::imprint::Imprint;
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::admission::memory::Memory;
use crate::status::waiters::Waiters;

/// How often to look while somebody waits …
const LOOK_EVERY: Duration = Duration::from_millis(75);
/// … and while nobody does.
const IDLE_LOOK_EVERY: Duration = Duration::from_millis(500);
/// How far a look reaches back, and how often it does at least, the farthest first: now and then for a commit
/// that took long. A statement of the worker may take ten seconds.
const REACHES: [(i64, Duration); 3] = [
    (FARTHEST_MS, Duration::from_secs(10)),
    (5_000, Duration::from_secs(2)),
    (300, Duration::ZERO),
];
const FARTHEST_MS: i64 = 12_000;
/// Fewer rows are named at once: an imprint would cost as much.
const NAMED_MAX: i64 = 200;
const PAGE: u32 = 1_000;
/// Pages read in one look at most: the rest comes in the next.
const PAGES_MAX: usize = 50;
/// Rows remembered as known at most: 30,000 a second. Others are sent again, which changes nothing but takes
/// time.
const KNOWN_MAX: usize = 400_000;
const IDS_PER_QUERY_MAX: usize = 1_000;
const FORGET_EVERY: Duration = Duration::from_hours(1);
const DAY_MS: i64 = 86_400_000;

/// How far the ledger has been read.
#[derive(Debug, Default)]
pub struct Changes(Mutex<Read>);

#[derive(Debug, Default)]
struct Read {
    /// The newest time of change seen.
    newest: UnixMs,
    /// What was seen lately: time, id, version.
    known: VecDeque<(UnixMs, BookingId, i64)>,
}

impl Changes {
    /// Follows the ledger, for ever.
    pub async fn follow(
        &self,
        ledger: &Ledger,
        memory: &Memory,
        waiters: &Waiters,
        clock: &dyn Clock,
    ) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut looked_at, mut forgot_at) = (None, None);
        let mut reached_at = [None; REACHES.len()];
        loop {
            ticks.tick().await;
            if is_due(forgot_at, FORGET_EVERY) {
                forgot_at = Some(Instant::now());
                let today = clock.now().0.div_euclid(DAY_MS);
                // A day of grace: a date is the hospital's, this is the world's.
                memory.held.forget_before(i32::try_from(today - 1).unwrap_or(i32::MIN));
            }
            let waiting = waiters.count();
            metrics::gauge!("slotrush_waiters").set(u32::try_from(waiting).unwrap_or(u32::MAX));
            look_up_new(ledger, waiters).await;
            if waiting == 0 && !is_due(looked_at, IDLE_LOOK_EVERY) {
                continue;
            }
            looked_at = Some(Instant::now());
            let reach = REACHES.iter().zip(&reached_at);
            let reach = reach.take_while(|((_, every), at)| !is_due(**at, *every)).count();
            let (overlap_ms, _) = REACHES[reach];
            match self.catch_up(ledger, memory, waiters, overlap_ms).await {
                Ok(is_complete) => {
                    // Who reaches far reaches near.
                    reached_at[reach..].fill(looked_at);
                    if is_complete {
                        memory.held.set_read();
                    } else {
                        // The rest at once: a gateway that starts is not ready before it has read it.
                        looked_at = None;
                    }
                }
                Err(error) => tracing::debug!(%error, "following the bookings failed"),
            }
        }
    }

    /// Reads what changed since the last time; false if more is left. Whatever was committed before
    /// this call, not more than `overlap_ms` after its time of change, is known after it.
    pub async fn catch_up(
        &self,
        ledger: &Ledger,
        memory: &Memory,
        waiters: &Waiters,
        overlap_ms: i64,
    ) -> Result<bool, ledger::Error> {
        let mut read = self.0.lock().await;
        let newest = read.newest;
        let mut since = UnixMs(newest.0.saturating_sub(overlap_ms).max(0));
        let known = read.imprint(since);
        if known.rows() > NAMED_MAX && ledger.imprint(since, newest).await? == known {
            since = newest;
        }
        for _ in 0..PAGES_MAX {
            let page = ledger.changes_since(since, &read.known_from(since), PAGE).await?;
            memory.learn(&page);
            waiters.wake(page.iter().map(|change| &change.row));
            let is_last = page.len() < PAGE as usize;
            // Not further: what is told apart by version alone is read again until it is known.
            since = page.last().map_or(since, |last| last.row.changed_at);
            read.note(&page);
            if is_last {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Read {
    /// Returns what is known of the rows that changed at `since` or later.
    fn known_from(&self, since: UnixMs) -> Vec<(BookingId, i64)> {
        let known = self.known.iter().filter(|(changed_at, ..)| *changed_at >= since);
        known.map(|(_, id, version)| (*id, *version)).collect()
    }

    /// Returns the imprint of what is known from `since` on, but before the newest.
    fn imprint(&self, since: UnixMs) -> Imprint {
        let known = self.known.iter();
        let known = known.filter(|(changed_at, ..)| (since..self.newest).contains(changed_at));
        known.fold(Imprint::default(), |all, (_, id, version)| all.and(*id, *version))
    }

    fn note(&mut self, page: &[Change]) {
        // What changed again is no longer where it was.
        let again: HashSet<BookingId> = page
            .iter()
            .filter(|change| change.row.version > 1)
            .map(|change| change.row.booking.id)
            .collect();
        if !again.is_empty() {
            self.known.retain(|(_, id, _)| !again.contains(id));
        }
        for Change { row, .. } in page {
            self.newest = self.newest.max(row.changed_at);
            self.known.push_back((row.changed_at, row.booking.id, row.version));
        }
        let oldest = UnixMs(self.newest.0.saturating_sub(FARTHEST_MS));
        self.known.retain(|(changed_at, ..)| *changed_at >= oldest);
        while self.known.len() > KNOWN_MAX {
            self.known.pop_front();
        }
    }
}

/// Looks up who began to wait: their end may have been read before.
async fn look_up_new(ledger: &Ledger, waiters: &Waiters) {
    let new = waiters.take_new();
    for ids in new.chunks(IDS_PER_QUERY_MAX) {
        match ledger.find_bookings(ids).await {
            Ok(rows) => waiters.wake(&rows),
            Err(error) => {
                tracing::debug!(%error, "looking for final answers failed");
                waiters.look_again(ids);
            }
        }
    }
}

fn is_due(last: Option<Instant>, every: Duration) -> bool {
    last.is_none_or(|last| last.elapsed() >= every)
}

#[cfg(test)]
mod tests {
    use booking::{
        AccountId, Booking, DepartmentId, Digest, Epoch, HospitalId, PatientId, SlotId, State,
    };
    use ledger::booking_row::BookingRow;

    use super::*;

    fn change(id: i64, version: i64, changed_at: i64) -> Change {
        let (slot, patient) = (SlotId::from(256), PatientId::from(1));
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
        let row = BookingRow {
            booking,
            state: State::Booked,
            reason: None,
            number: Some(1),
            version,
            persisted_at: UnixMs(0),
            changed_at: UnixMs(changed_at),
        };
        Change { row, hospital: HospitalId::from(1), department: DepartmentId::from(1), day: 0 }
    }

    #[test]
    fn what_is_known_is_named_by_id_and_version_as_far_as_a_look_reaches() {
        let mut read = Read::default();
        read.note(&[change(1, 1, 10_000), change(2, 1, 10_500)]);
        read.note(&[change(1, 2, 10_600)]);
        assert_eq!(read.newest, UnixMs(10_600));
        let named = |since| read.known_from(UnixMs(since));
        let id = BookingId::from;
        assert_eq!(named(10_000), [(id(2), 1), (id(1), 2)], "a row is where it changed last");
        assert_eq!(named(10_501), [(id(1), 2)]);
    }

    #[test]
    fn the_imprint_is_of_what_changed_before_the_newest_and_in_any_order() {
        let imprint = |changes: &[Change], since| {
            let mut read = Read::default();
            for change in changes {
                read.note(std::slice::from_ref(change));
            }
            read.imprint(UnixMs(since))
        };
        let [early, late, newest] = [change(1, 1, 100), change(2, 1, 200), change(3, 1, 300)];
        let both = imprint(&[early.clone(), late.clone(), newest.clone()], 100);
        assert_eq!(both, imprint(&[newest.clone(), late.clone(), early.clone()], 100));
        assert_eq!(imprint(&[early.clone(), newest.clone()], 101), Imprint::default());
        assert_ne!(both, imprint(&[early.clone(), newest.clone()], 100), "one was overlooked");
        let other = change(2, 2, 200);
        assert_ne!(both, imprint(&[early, other, newest], 100), "another version");
    }

    #[test]
    fn only_what_the_longest_look_reaches_is_kept() {
        let mut read = Read::default();
        read.note(&[change(1, 1, 10_000)]);
        read.note(&[change(2, 1, 10_000 + FARTHEST_MS + 1)]);
        assert_eq!(read.known.len(), 1);
        let many: Vec<Change> = (0..10_000).map(|id| change(id, 1, 20_000)).collect();
        for _ in 0..=KNOWN_MAX / many.len() {
            read.note(&many);
        }
        assert_eq!(read.known.len(), KNOWN_MAX);
    }
}
