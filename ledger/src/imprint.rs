//! Whether anything changed that is not known yet, told without sending it.

use booking::{BookingId, UnixMs};
use futures::FutureExt as _;

use crate::{Error, Ledger};

/// What changed in a time, in so few figures that two looks can be compared.
///
/// What is known and what is there can look alike and differ only where rows came and as many others went
/// at once, and mix to the same. A row goes by changing again, so it is seen where it is now, and then the
/// next look tells of the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imprint {
    count: i64,
    mixed: i64,
}

impl Imprint {
    /// Returns how many rows it is of.
    pub const fn rows(self) -> i64 {
        self.count
    }

    /// Adds a row. The statement of [`Ledger::imprint`] does the same.
    #[must_use]
    pub fn and(self, id: BookingId, version: i64) -> Self {
        // No product reaches 2^63: PostgreSQL would refuse it.
        let high = (id.get() >> 31) * 2_147_483_629;
        let low = (id.get() & 0x7fff_ffff) * 2_654_435_761;
        let mixed = high ^ low ^ version.wrapping_mul(2_246_822_519);
        Self { count: self.count + 1, mixed: self.mixed ^ mixed }
    }
}

impl Ledger {
    /// Returns the imprint of all bookings that changed at `from` or later, and before `to`.
    pub async fn imprint(&self, from: UnixMs, to: UnixMs) -> Result<Imprint, Error> {
        let (count, mixed) = self
            .run_kept(move |connection| {
                sqlx::query_as(
                    "SELECT count(*),
                         coalesce(bit_xor(((b.id >> 31) * 2147483629)
                             # ((b.id & 2147483647) * 2654435761)
                             # (b.version * 2246822519)), 0)
                     FROM booking b
                     WHERE b.changed_at >= from_unix_ms($1) AND b.changed_at < from_unix_ms($2)",
                )
                .bind(from.0)
                .bind(to.0)
                .fetch_one(connection)
                .boxed()
            })
            .await?;
        Ok(Imprint { count, mixed })
    }
}
