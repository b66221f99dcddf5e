//! Whether anything changed that is not known yet, told without sending it.

use booking::{BookingId, UnixMs};

use crate::{Error, Ledger};

/// What changed in a time, in so few figures that two looks can be compared.
///
/// Two different sets of rows look alike by chance only, about once in 2^60.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imprint {
    count: i64,
    mixed: i64,
}

impl Imprint {
    /// Adds a row. The statement of [`Ledger::imprint`] does the same.
    #[must_use]
    pub fn and(self, id: BookingId, version: i64) -> Self {
        let mixed = (id.get() % 2_147_483_647).wrapping_add(version).wrapping_mul(2_654_435_761);
        Self { count: self.count + 1, mixed: self.mixed ^ mixed }
    }
}

impl Ledger {
    /// Returns the imprint of all bookings that changed at `from` or later, and before `to`.
    pub async fn imprint(&self, from: UnixMs, to: UnixMs) -> Result<Imprint, Error> {
        let (count, mixed) = self
            .run(move |pool| async move {
                sqlx::query_as(
                    "SELECT count(*),
                         coalesce(bit_xor((b.id % 2147483647 + b.version) * 2654435761), 0)
                     FROM booking b
                     WHERE b.changed_at >= from_unix_ms($1) AND b.changed_at < from_unix_ms($2)",
                )
                .bind(from.0)
                .bind(to.0)
                .fetch_one(&pool)
                .await
            })
            .await?;
        Ok(Imprint { count, mixed })
    }
}
