//! Bookings that were promised here, until their rows are read.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::accepted::Accepted;

/// How long the row of a promised booking may take: the time of L1.
pub const DUE_AFTER: Duration = Duration::from_secs(30);
/// Promises that are followed at most; of more, the oldest are followed no further.
const PROMISED_MAX: usize = 100_000;

/// Promises, oldest first.
#[derive(Debug, Default)]
pub struct Promised(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    young: VecDeque<(Instant, Arc<Accepted>)>,
    overdue: VecDeque<Arc<Accepted>>,
}

impl Promised {
    /// Notes a booking that is promised from now on. Twice does no harm.
    pub fn note(&self, accepted: &Arc<Accepted>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.young.len() >= PROMISED_MAX {
            waiting.young.pop_front();
        }
        waiting.young.push_back((Instant::now(), Arc::clone(accepted)));
    }

    /// Returns how many promises are older than [`DUE_AFTER`] and without a row that was read, and
    /// some of them. The first `step` of these are others each time.
    pub fn overdue(&self, now: Instant, some: usize, step: usize) -> (usize, Vec<Arc<Accepted>>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Waiting { young, overdue } = &mut *waiting;
        overdue.retain(|accepted| !accepted.has_row());
        while young.front().is_some_and(|(at, accepted)| {
            accepted.has_row() || now.saturating_duration_since(*at) >= DUE_AFTER
        }) {
            let Some((_, accepted)) = young.pop_front() else { break };
            if !accepted.has_row() && overdue.len() < PROMISED_MAX {
                overdue.push_back(accepted);
            }
        }
        let step = step.min(overdue.len());
        overdue.rotate_left(step);
        let latest = overdue.iter().rev().take(some).map(Arc::clone).collect();
        (overdue.len(), latest)
    }
}

#[cfg(test)]
mod tests {
    use booking::{AccountId, Digest, Epoch, PatientId, SlotId, State, UnixMs};
    use ledger::booking_row::BookingRow;

    use super::*;
    use crate::admission::Wish;

    fn promise(promised: &Promised, id: i64) -> Arc<Accepted> {
        let wish = Wish::new(
            AccountId::from(1),
            SlotId::from(256),
            PatientId::from(1),
            Digest::of_key("k"),
        );
        let accepted = Arc::new(Accepted::new(wish.booking(id.into(), Epoch(1), UnixMs(0)), None));
        accepted.set_certain();
        promised.note(&accepted);
        accepted
    }

    #[test]
    fn a_promise_is_overdue_until_its_row_is_read() {
        let promised = Promised::default();
        let accepted: Vec<_> = (1..=3).map(|id| promise(&promised, id)).collect();
        let (now, later) = (Instant::now(), Instant::now() + DUE_AFTER);
        assert_eq!(promised.overdue(now, 10, 1).0, 0);
        let read = |accepted: &Accepted| {
            accepted.note_row(&BookingRow {
                booking: accepted.booking.clone(),
                state: State::Booked,
                reason: None,
                number: Some(1),
                version: 1,
                persisted_at: UnixMs(0),
                changed_at: UnixMs(0),
            });
        };
        read(&accepted[1]);
        let one = |(count, some): (usize, Vec<Arc<Accepted>>)| (count, some[0].booking.id.get());
        assert_eq!(one(promised.overdue(later, 1, 1)), (2, 1));
        assert_eq!(one(promised.overdue(later, 1, 1)), (2, 3));
        read(&accepted[0]);
        read(&accepted[2]);
        assert_eq!(promised.overdue(later, 1, 1).0, 0);
    }

    #[test]
    fn the_first_are_others_each_time_also_where_all_are_told() {
        let promised = Promised::default();
        let _accepted: Vec<_> = (1..=3).map(|id| promise(&promised, id)).collect();
        let later = Instant::now() + DUE_AFTER;
        let first = || promised.overdue(later, 10, 1).1[0].booking.id.get();
        assert_eq!([first(), first(), first(), first()], [1, 2, 3, 1]);
    }

    #[test]
    fn only_so_many_promises_are_kept() {
        let promised = Promised::default();
        let accepted = promise(&promised, 1);
        (0..PROMISED_MAX + 10).for_each(|_| promised.note(&accepted));
        assert_eq!(promised.overdue(Instant::now() + DUE_AFTER, 1, 1).0, PROMISED_MAX);
    }
}
