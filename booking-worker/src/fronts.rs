//! How far the queues have moved: by that the relay tells a booking that is lost from one that waits.
//!
//! A queue gives its bookings out in the order they came. What was accepted well before the latest of those
//! that came out is not in it any more; what was accepted later may be, however old it is.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use booking::partition::PARTITIONS_MAX;
use booking::{BookingId, Partition, UnixMs};

/// A queue that gave nothing for so long does not move, or not to here: nothing is known of it.
const MOVES_WITHIN: Duration = Duration::from_secs(2);
/// How long after its id was minted a booking comes to the queue, or never does: a hold, a wait and a
/// confirm at their longest, and clocks that are not quite the same.
const COMES_WITHIN_MS: i64 = 3_000;

/// The fronts of all partitions.
#[derive(Debug)]
pub struct Fronts(Vec<Mutex<Option<Front>>>);

/// The latest that came out of a queue.
#[derive(Clone, Copy, Debug)]
struct Front {
    minted_at: UnixMs,
    moved_at: Instant,
}

impl Default for Fronts {
    fn default() -> Self {
        Self((0..PARTITIONS_MAX).map(|_| Mutex::default()).collect())
    }
}

impl Fronts {
    /// Notes bookings that came out of a partition's queue.
    pub fn note(&self, partition: Partition, ids: impl Iterator<Item = BookingId>) {
        self.note_at(partition, ids, Instant::now());
    }

    fn note_at(
        &self,
        partition: Partition,
        ids: impl Iterator<Item = BookingId>,
        moved_at: Instant,
    ) {
        let Some(newest) = ids.map(BookingId::minted_at).max() else { return };
        let mut front = self.of(partition).lock().unwrap_or_else(PoisonError::into_inner);
        // What is published again comes late, and says nothing of what came before it.
        let before = front.filter(|front| front.moves(moved_at)).map(|front| front.minted_at);
        let minted_at = before.map_or(newest, |before| before.max(newest));
        *front = Some(Front { minted_at, moved_at });
    }

    /// Tells whether a booking may still stand in its queue, which moves and has not come to it.
    pub(crate) fn may_wait(&self, partition: Partition, id: BookingId) -> bool {
        self.may_wait_at(partition, id, Instant::now())
    }

    fn may_wait_at(&self, partition: Partition, id: BookingId, now: Instant) -> bool {
        let front = *self.of(partition).lock().unwrap_or_else(PoisonError::into_inner);
        front.is_some_and(|front| {
            front.moves(now) && front.minted_at < id.minted_at().plus_ms(COMES_WITHIN_MS)
        })
    }

    fn of(&self, partition: Partition) -> &Mutex<Option<Front>> {
        &self.0[usize::from(partition.get())]
    }
}

impl Front {
    fn moves(self, now: Instant) -> bool {
        now.saturating_duration_since(self.moved_at) < MOVES_WITHIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: Partition = Partition::new(1);

    /// An id minted so many ms after the first there can be.
    fn minted(ms: i64) -> BookingId {
        BookingId::from((ms << 22) | 1)
    }

    #[test]
    fn only_what_a_moving_queue_has_not_come_to_may_wait() {
        let fronts = Fronts::default();
        let now = Instant::now();
        assert!(!fronts.may_wait_at(P, minted(20_000), now), "nothing is known");
        fronts.note_at(P, [minted(9_000), minted(10_000)].into_iter(), now);
        let may_wait = |ms, at| fronts.may_wait_at(P, minted(ms), at);
        assert!(may_wait(20_000, now) && may_wait(7_001, now));
        assert!(!may_wait(7_000, now), "the queue has passed it");
        assert!(!may_wait(20_000, now + MOVES_WITHIN), "the queue does not move");
        assert!(!fronts.may_wait_at(Partition::new(2), minted(20_000), now), "another queue");
    }

    #[test]
    fn what_is_published_again_does_not_move_the_front_back() {
        let fronts = Fronts::default();
        let now = Instant::now();
        fronts.note_at(P, [minted(10_000)].into_iter(), now);
        fronts.note_at(P, [minted(2_000)].into_iter(), now);
        assert!(!fronts.may_wait_at(P, minted(7_000), now));
        fronts.note_at(P, [minted(2_000)].into_iter(), now + MOVES_WITHIN);
        assert!(fronts.may_wait_at(P, minted(7_000), now + MOVES_WITHIN));
    }
}
