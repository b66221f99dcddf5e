//! Which bookings changed, and whether any did.
//!
//! Rows of bookings are final but for the cancel, and every transaction that changes one is counted
//! in the commit that shows the change. So one number, read in the snapshot of a row or before it,
//! tells later whether the row is still what it was.

use booking::BookingId;
use futures::FutureExt as _;
use sqlx::postgres::PgRow;
use sqlx::{FromRow as _, Row as _};

use crate::booking_row::{BookingRow, StoredBooking, booking_columns, columns};
use crate::{Error, Ledger};

/// How many transactions have changed bookings. As long as two looks find the same, no row that the
/// first could see differs for the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeCount(pub i64);

/// Rows, and how many changes they are the result of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Those that differ from what was known, in no order.
    pub rows: Vec<BookingRow>,
    /// Of the same snapshot.
    pub count: ChangeCount,
}

impl Ledger {
    /// Returns how many transactions have changed bookings.
    pub async fn change_count(&self) -> Result<ChangeCount, Error> {
        let count = self.run_kept(|connection| {
            sqlx::query_scalar("SELECT sum(changes)::bigint FROM changed_bookings")
                .fetch_one(connection)
                .boxed()
        });
        Ok(ChangeCount(count.await?))
    }

    /// Returns the rows of these ids whose version is not the one named. One statement, because the
    /// count must be of the rows' own snapshot: a change between the two would be in the count and
    /// not in the row, and be overlooked for ever.
    pub async fn find_changed(&self, known: &[(BookingId, i64)]) -> Result<Changed, Error> {
        let (ids, versions) = columns(known);
        let found: Vec<PgRow> = self
            .run_kept(move |connection| {
                sqlx::query(concat!(
                    "SELECT c.count, ",
                    booking_columns!(),
                    " FROM (SELECT sum(changes)::bigint AS count FROM changed_bookings) c
                     LEFT JOIN booking b
                       ON b.id = ANY ($1)
                       AND (b.id, b.version) NOT IN (
                           SELECT k.id, k.version
                           FROM unnest($1::bigint[], $2::bigint[]) AS k (id, version))",
                ))
                .bind(ids.clone())
                .bind(versions.clone())
                .fetch_all(connection)
                .boxed()
            })
            .await?;
        read(&found).map_err(Error::from)
    }
}

/// Reads rows of which one is there in any case, with the count alone if it has no booking.
fn read(found: &[PgRow]) -> Result<Changed, sqlx::Error> {
    let first = found.first().ok_or(sqlx::Error::RowNotFound)?;
    let count = ChangeCount(first.try_get("count")?);
    let mut rows = Vec::new();
    for row in found {
        if row.try_get::<Option<i64>, _>("id")?.is_some() {
            rows.push(StoredBooking::from_row(row)?.read()?);
        }
    }
    Ok(Changed { rows, count })
}
