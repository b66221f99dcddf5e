//! When a patient who waits for the end of a booking should ask again (`Retry-After`).
//!
//! Asking every second costs as many polls as there are seconds to wait. Who knows how fast the queue
//! moves can tell each when it is likely their turn, so that one or two polls are enough.

use booking::BookingId;

const AFTER_S_MIN: u64 = 1;
/// Not longer, whatever the estimate: it may turn out to be wrong.
const AFTER_S_MAX: u64 = 30;
/// Of what is told, such a part more, at most, so that not all come back in the same second.
const SPREAD: u64 = 6;
/// The longest that leaves room for this.
const BASE_S_MAX: u64 = AFTER_S_MAX - AFTER_S_MAX / (SPREAD + 1);

/// Returns after how many seconds to ask again for a booking that is so old, and whose end is
/// estimated to be so far away.
///
/// A tenth later than the estimate: who comes a little too early has to come twice. Without an estimate,
/// because nothing is known yet or nothing moves, after half as long as it has been waited for already.
pub fn after_s(id: BookingId, estimated_wait_ms: Option<u64>, age_ms: u64) -> u64 {
    let wait_ms = match estimated_wait_ms {
        Some(estimate_ms) => estimate_ms.saturating_add(estimate_ms / 10),
        None => age_ms / 2,
    };
    let base_s = wait_ms.div_ceil(1_000).clamp(AFTER_S_MIN, BASE_S_MAX);
    base_s + scattered(id) % (1 + base_s / SPREAD)
}

/// A number that is always the same for a booking, and of no order.
fn scattered(id: BookingId) -> u64 {
    // Fibonacci hashing: neighbours lie far apart in the upper half.
    id.get().unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn after(estimated_wait_ms: Option<u64>, age_ms: u64) -> BTreeSet<u64> {
        (1..1_000).map(|id| after_s(BookingId::from(id), estimated_wait_ms, age_ms)).collect()
    }

    #[test]
    fn who_is_further_back_comes_later_and_never_too_late() {
        assert_eq!(after(Some(1), 0), BTreeSet::from([1]));
        assert_eq!(after(Some(900), 0), BTreeSet::from([1]));
        assert_eq!(after(Some(4_000), 0), BTreeSet::from([5]));
        assert_eq!(after(Some(11_000), 0), BTreeSet::from([13, 14, 15]));
        assert_eq!(after(Some(600_000), 0), BTreeSet::from([26, 27, 28, 29, 30]));
        assert_eq!(after(Some(u64::MAX), u64::MAX), after(Some(600_000), 0));
    }

    #[test]
    fn while_nothing_moves_each_asks_less_and_less() {
        let id = BookingId::from(1);
        let mut ages = vec![0];
        while ages.len() < 12 {
            let age_ms = ages[ages.len() - 1];
            ages.push(age_ms + after_s(id, None, age_ms) * 1_000);
        }
        let gaps: Vec<u64> = ages.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.is_sorted_by(|a, b| a <= b || *a >= 26_000), "{gaps:?}");
        assert_eq!(gaps[0], 1_000);
        assert!((26_000..=30_000).contains(&gaps[10]), "{gaps:?}");
    }

    #[test]
    fn a_booking_is_always_told_the_same() {
        let id = BookingId::from(77);
        assert_eq!(after_s(id, Some(20_000), 0), after_s(id, Some(20_000), 5_000));
    }
}
