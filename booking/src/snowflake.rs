//! Booking ids: 41 bits of milliseconds since 2026-01-01T00:00:00Z, then 6 bits of partition,
//! 8 bits of worker id and 8 bits of sequence.
//!
//! The id carries its partition, so that any node finds the ledger from the id alone. It is
//! minted before quota is touched, so that everything that follows can be repeated safely.
//!
//! An id is unique because its worker id is leased: [`Mint`] stops when the lease runs out,
//! starts above the time the former holder may have used, and waits out a clock that stepped back.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ferroid::generator::{AtomicSnowflakeGenerator, Poll};
use ferroid::time::TimeSource;

use crate::clock::{Clock, UnixMs};
use crate::id::BookingId;
use crate::partition::{PARTITIONS_MAX, Partition};

/// 2026-01-01T00:00:00Z, the zero of every id's time.
pub const ID_EPOCH: UnixMs = UnixMs(1_767_225_600_000);

/// How many worker ids there are, and so how many gateways may mint at once.
pub const WORKER_IDS: u16 = 256;

/// How long an id's time may run ahead of or behind the clock before minting is refused.
pub const CLOCK_STEP_MAX_MS: i64 = 5_000;

mod layout {
    ferroid::define_snowflake_id!(
        Layout, u64,
        reserved: 1,
        timestamp: 41,
        machine_id: 14,
        sequence: 8
    );
}
use layout::Layout;

/// A leased number that keeps two minting programs apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkerId(u8);

impl WorkerId {
    /// Names worker `number`.
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl BookingId {
    /// Returns when the id was minted.
    pub fn minted_at(self) -> UnixMs {
        let ms = self.get().cast_unsigned() >> Layout::TIMESTAMP_SHIFT;
        ID_EPOCH.plus_ms(ms.cast_signed())
    }

    /// Returns the partition whose ledger holds, or held, the booking.
    pub fn partition(self) -> Partition {
        let bits = (self.get().cast_unsigned() >> (Layout::MACHINE_ID_SHIFT + 8)) & 0x3f;
        Partition::new(u8::try_from(bits).unwrap_or(0))
    }
}

/// What came of asking for an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Minted {
    /// A new id.
    Id(BookingId),
    /// This millisecond's ids are used up, or the clock stepped back a little: ask again then.
    Wait {
        /// Milliseconds until an id may be had.
        ms: u64,
    },
    /// The clock stepped back too far, or the worker id's lease ran out: mint nothing.
    Refused,
}

/// Mints booking ids under one leased worker id.
pub struct Mint {
    generators: Vec<AtomicSnowflakeGenerator<Layout, SinceIdEpoch>>,
    clock: Arc<dyn Clock>,
    leased_until: AtomicI64,
}

impl std::fmt::Debug for Mint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mint").field("leased_until", &self.leased_until).finish_non_exhaustive()
    }
}

impl Mint {
    /// Starts minting as `worker`, with ids later than `floor`, until `leased_until`.
    ///
    /// `floor` is the latest time any former holder of the worker id may have put in an id.
    pub fn new(
        worker: WorkerId,
        floor: UnixMs,
        leased_until: UnixMs,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let floor_ms = floor.since(ID_EPOCH) & Layout::TIMESTAMP_MASK;
        let generators = (0..PARTITIONS_MAX)
            .map(|partition| {
                let machine = (u64::from(partition) << 8) | u64::from(worker.get());
                AtomicSnowflakeGenerator::from_components(
                    floor_ms,
                    machine,
                    Layout::SEQUENCE_MASK,
                    SinceIdEpoch(Arc::clone(&clock)),
                )
            })
            .collect();
        Self { generators, clock, leased_until: AtomicI64::new(leased_until.0) }
    }

    /// Notes that the lease was renewed, or with a time in the past, given up.
    pub fn set_leased_until(&self, until: UnixMs) {
        self.leased_until.store(until.0, Ordering::Release);
    }

    /// Mints an id for a partition.
    pub fn mint(&self, partition: Partition) -> Minted {
        if self.clock.now().0 >= self.leased_until.load(Ordering::Acquire) {
            return Minted::Refused;
        }
        match self.generators[usize::from(partition.get())].poll_id() {
            Poll::Ready { id } => Minted::Id(BookingId::from(id.to_raw().cast_signed())),
            Poll::Pending { yield_for } if yield_for.cast_signed() <= CLOCK_STEP_MAX_MS => {
                Minted::Wait { ms: yield_for }
            }
            Poll::Pending { .. } => Minted::Refused,
        }
    }
}

struct SinceIdEpoch(Arc<dyn Clock>);

impl TimeSource<u64> for SinceIdEpoch {
    fn current_millis(&self) -> u64 {
        self.0.now().since(ID_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::clock::ManualClock;

    const NOW: UnixMs = UnixMs(ID_EPOCH.0 + 1_000_000);

    fn mint(clock: &Arc<ManualClock>) -> Mint {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
        Mint::new(WorkerId::new(9), UnixMs(0), NOW.plus_ms(60_000), clock)
    }

    fn id(minted: Minted) -> BookingId {
        match minted {
            Minted::Id(id) => id,
            other => panic!("no id: {other:?}"),
        }
    }

    #[test]
    fn an_id_carries_its_time_and_partition() {
        let clock = Arc::new(ManualClock::at(NOW));
        let id = id(mint(&clock).mint(Partition::new(63)));
        assert_eq!((id.minted_at(), id.partition()), (NOW, Partition::new(63)));
        assert!(id.get() > 0);
    }

    #[test]
    fn a_millisecond_has_256_ids_and_then_a_wait() {
        let clock = Arc::new(ManualClock::at(NOW));
        let mint = mint(&clock);
        let ids: HashSet<_> = (0..256).map(|_| id(mint.mint(Partition::new(1)))).collect();
        assert_eq!(ids.len(), 256);
        assert_eq!(mint.mint(Partition::new(1)), Minted::Wait { ms: 1 });
        assert!(matches!(mint.mint(Partition::new(2)), Minted::Id(_)));
    }

    #[test]
    fn a_clock_that_steps_back_is_waited_out_or_refused_never_followed() {
        let clock = Arc::new(ManualClock::at(NOW));
        let mint = mint(&clock);
        let before = id(mint.mint(Partition::new(0)));
        clock.set(NOW.plus_ms(-100));
        assert_eq!(mint.mint(Partition::new(0)), Minted::Wait { ms: 100 });
        clock.set(NOW.plus_ms(-CLOCK_STEP_MAX_MS - 1));
        assert_eq!(mint.mint(Partition::new(0)), Minted::Refused);
        clock.set(NOW.plus_ms(1));
        assert!(id(mint.mint(Partition::new(0))) > before);
    }

    #[test]
    fn a_new_holder_of_a_worker_id_starts_above_the_former_ones_time() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW));
        let mint = Mint::new(WorkerId::new(9), NOW.plus_ms(50), NOW.plus_ms(60_000), clock);
        assert_eq!(mint.mint(Partition::new(0)), Minted::Wait { ms: 50 });
    }

    #[test]
    fn without_a_lease_there_is_no_id() {
        let clock = Arc::new(ManualClock::at(NOW));
        let mint = mint(&clock);
        clock.set(NOW.plus_ms(60_000));
        assert_eq!(mint.mint(Partition::new(0)), Minted::Refused);
        mint.set_leased_until(NOW.plus_ms(120_000));
        assert!(matches!(mint.mint(Partition::new(0)), Minted::Id(_)));
    }
}
