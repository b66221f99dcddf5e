//! Bookings as rows: reading, following, cancelling, lapsing.

use booking::{
    AccountId, Booking, BookingId, DepartmentId, Epoch, HospitalId, Partition, PatientId, Reason,
    SlotId, State, UnixMs,
};
use futures::FutureExt as _;

use crate::column;
use crate::release::unix_ms;
use crate::{Error, Ledger};

/// A booking's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookingRow {
    /// The booking as accepted.
    pub booking: Booking,
    /// Its state.
    pub state: State,
    /// Why, if rejected.
    pub reason: Option<Reason>,
    /// Its number in the slot.
    pub number: Option<u32>,
    /// Counts changes.
    pub version: i64,
    /// When it became durable.
    pub persisted_at: UnixMs,
    /// When it last changed.
    pub changed_at: UnixMs,
}

/// The outcome of cancelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// Cancelled now.
    Done(BookingRow),
    /// It was not live any more.
    NotLive(BookingRow),
    /// Its slot has begun.
    TooLate(BookingRow),
    /// No such booking of this account.
    NotFound,
}

/// The outcome of lapsing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lapsed {
    /// The final row, made now or found.
    Row(BookingRow),
    /// An older epoch is not closed: it may still turn up.
    NotYet,
}

/// A booking's row and where it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The row as it is now.
    pub row: BookingRow,
    /// Where.
    pub hospital: HospitalId,
    /// Where.
    pub department: DepartmentId,
    /// Days since 1970-01-01 of the session's date.
    pub day: i32,
}

impl Ledger {
    /// Returns the rows of these ids, in no order. One statement.
    pub async fn find_bookings(&self, ids: &[BookingId]) -> Result<Vec<BookingRow>, Error> {
        let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
        let rows: Vec<StoredBooking> = self
            .run(move |pool| async move {
                sqlx::query_as(concat!(
                    "SELECT ",
                    booking_columns!(),
                    " FROM booking b WHERE b.id = ANY ($1)",
                ))
                .bind(ids)
                .fetch_all(&pool)
                .await
            })
            .await?;
        read_all(rows)
    }

    /// Returns the row that superseded booking `id`, if one did.
    pub async fn superseding(&self, id: BookingId) -> Result<Option<BookingRow>, Error> {
        let row: Option<StoredBooking> = self
            .run(move |pool| async move {
                sqlx::query_as(concat!(
                    "SELECT ",
                    booking_columns!(),
                    " FROM booking lost
                     JOIN booking b ON b.id = lost.superseded_by
                     WHERE lost.id = $1",
                ))
                .bind(id.get())
                .fetch_optional(&pool)
                .await
            })
            .await?;
        Ok(row.map(StoredBooking::read).transpose()?)
    }

    /// Returns an account's bookings, latest first, older than `before`.
    pub async fn bookings_of_account(
        &self,
        account: AccountId,
        before: Option<BookingId>,
        limit: u16,
    ) -> Result<Vec<BookingRow>, Error> {
        let before = before.map_or(i64::MAX, BookingId::get);
        let rows: Vec<StoredBooking> = self
            .run(move |pool| async move {
                sqlx::query_as(concat!(
                    "SELECT ",
                    booking_columns!(),
                    " FROM booking b
                     WHERE b.account_id = $1
                       AND b.id < $2
                     ORDER BY b.id DESC
                     LIMIT $3",
                ))
                .bind(account.get())
                .bind(before)
                .bind(i64::from(limit))
                .fetch_all(&pool)
                .await
            })
            .await?;
        read_all(rows)
    }

    /// C1: cancels a live booking, by compare-and-set on its version.
    pub async fn cancel(&self, id: BookingId, account: AccountId) -> Result<Cancelled, Error> {
        let answer: Option<CancelAnswer> = self
            .run_again(move |pool| async move {
                sqlx::query_as(concat!(
                    "SELECT answer.outcome, ",
                    booking_columns!(),
                    " FROM cancel_booking($1, $2) AS answer
                     CROSS JOIN LATERAL (SELECT (answer.b).*) AS b",
                ))
                .bind(id.get())
                .bind(account.get())
                .fetch_optional(&pool)
                .await
            })
            .await?;
        let Some(answer) = answer else { return Ok(Cancelled::NotFound) };
        let row = answer.row.read()?;
        match answer.outcome.as_str() {
            "done" => Ok(Cancelled::Done(row)),
            "not_live" => Ok(Cancelled::NotLive(row)),
            "too_late" => Ok(Cancelled::TooLate(row)),
            _ => Err(column::unreadable("an outcome this version does not know").into()),
        }
    }

    /// S1: ends a pending booking that nothing holds any more. The caller has checked the outbox of the current ledger.
    pub async fn lapse(&self, booking: &Booking) -> Result<Lapsed, Error> {
        let booking = booking.clone();
        let row: Option<StoredBooking> = self
            .run_again(move |pool| {
                let booking = booking.clone();
                async move {
                    sqlx::query_as(concat!(
                        "SELECT ",
                        booking_columns!(),
                        " FROM lapse_booking($1, $2, $3, $4, $5, $6, $7, $8, $9) AS b",
                    ))
                    .bind(column::stored_partition(booking.id.partition()))
                    .bind(booking.id.get())
                    .bind(booking.epoch.0)
                    .bind(booking.slot.get())
                    .bind(booking.patient.get())
                    .bind(booking.account.get())
                    .bind(booking.key.as_bytes().to_vec())
                    .bind(booking.request.as_bytes().to_vec())
                    .bind(booking.accepted_at.0)
                    .fetch_optional(&pool)
                    .await
                }
            })
            .await?;
        Ok(match row {
            Some(row) => Lapsed::Row(row.read()?),
            None => Lapsed::NotYet,
        })
    }

    /// Returns a partition's rows changed since `since`, oldest change first, at most `limit`.
    ///
    /// Changes are not committed in the order of their times: a follower asks again from somewhat
    /// before the last time it saw.
    pub async fn changed_since(
        &self,
        partition: Partition,
        since: UnixMs,
        limit: u16,
    ) -> Result<Vec<BookingRow>, Error> {
        let rows: Vec<StoredBooking> = self
            .run(move |pool| async move {
                sqlx::query_as(concat!(
                    "SELECT ",
                    booking_columns!(),
                    " FROM booking b
                     WHERE b.partition = $1
                       AND b.changed_at >= from_unix_ms($2)
                     ORDER BY b.changed_at, b.id
                     LIMIT $3",
                ))
                .bind(column::stored_partition(partition))
                .bind(since.0)
                .bind(i64::from(limit))
                .fetch_all(&pool)
                .await
            })
            .await?;
        read_all(rows)
    }

    /// Returns a partition's bookings that were given back since `since`, oldest change first, each
    /// with the time of that change, at most `limit`.
    ///
    /// As with [`Self::changed_since`], a follower asks again from somewhat before what it saw.
    pub async fn given_back_since(
        &self,
        partition: Partition,
        since: UnixMs,
        limit: u16,
    ) -> Result<Vec<(Booking, UnixMs)>, Error> {
        let rows: Vec<StoredBooking> = self
            .run(move |pool| async move {
                sqlx::query_as(concat!(
                    "SELECT ",
                    booking_columns!(),
                    " FROM booking b
                     WHERE b.partition = $1
                       AND b.state = 'cancelled' -- booking_given_back_idx
                       AND b.changed_at >= from_unix_ms($2)
                     ORDER BY b.changed_at, b.id
                     LIMIT $3",
                ))
                .bind(column::stored_partition(partition))
                .bind(since.0)
                .bind(i64::from(limit))
                .fetch_all(&pool)
                .await
            })
            .await?;
        let rows = read_all(rows)?;
        Ok(rows.into_iter().map(|row| (row.booking, row.changed_at)).collect())
    }

    /// Returns bookings, changed since `since`, of sessions from today on and of the six days
    /// before, which the weekly limit counts, wherever the hospital is (all live ones if `since` is 0),
    /// oldest change first, at most `limit`, but for the `known` ones: ids with the version that was seen.
    pub async fn changes_since(
        &self,
        since: UnixMs,
        known: &[(BookingId, i64)],
        limit: u32,
    ) -> Result<Vec<Change>, Error> {
        let (ids, versions) = columns(known);
        let rows: Vec<StoredChange> = self
            .run_kept(move |connection| {
                sqlx::query_as(concat!(
                    "SELECT ",
                    booking_columns!(),
                    ", t.hospital_id, t.department_id, t.on_date - date '1970-01-01' AS day
                     FROM booking b
                     JOIN session t ON t.id = b.session_id
                     WHERE b.changed_at >= from_unix_ms($1)
                       AND (b.state = 'booked' OR $1 > 0)
                       -- Six days before the earliest date on earth, which is UTC's or the one before.
                       -- Each hospital's own date would be looked up for each booking, among all of them.
                       AND t.on_date >= (clock_timestamp() AT TIME ZONE 'UTC')::date - 7
                       -- NOT IN, because that is always one hash table; an anti join may be loops.
                       AND (b.id, b.version) NOT IN (
                           SELECT k.id, k.version
                           FROM unnest($2::bigint[], $3::bigint[]) AS k (id, version))
                     ORDER BY b.changed_at, b.id
                     LIMIT $4",
                ))
                .bind(since.0)
                .bind(ids.clone())
                .bind(versions.clone())
                .bind(i64::from(limit))
                .fetch_all(connection)
                .boxed()
            })
            .await?;
        Ok(rows.into_iter().map(StoredChange::read).collect::<Result<_, _>>()?)
    }
}

pub(crate) fn columns(known: &[(BookingId, i64)]) -> (Vec<i64>, Vec<i64>) {
    known.iter().map(|(id, version)| (id.get(), *version)).unzip()
}

fn read_all(rows: Vec<StoredBooking>) -> Result<Vec<BookingRow>, Error> {
    Ok(rows.into_iter().map(StoredBooking::read).collect::<Result<_, _>>()?)
}

/// The columns of a [`StoredBooking`], of a booking called `b`. Times as they are: each gateway reads each
/// booking, and PostgreSQL takes a microsecond to turn one time into a number.
macro_rules! booking_columns {
    () => {
        "b.id, b.e, b.slot_id, b.patient_id, b.account_id, b.key_digest, b.request_digest, \
         b.state, b.reason, b.number, b.version, b.accepted_at, b.persisted_at, b.changed_at"
    };
}
pub(crate) use booking_columns;

/// A booking's row as PostgreSQL returns it.
#[derive(sqlx::FromRow)]
pub(crate) struct StoredBooking {
    id: i64,
    e: i64,
    slot_id: i64,
    patient_id: i64,
    account_id: i64,
    key_digest: Vec<u8>,
    request_digest: Vec<u8>,
    state: String,
    reason: Option<String>,
    number: Option<i32>,
    version: i64,
    accepted_at: jiff_sqlx::Timestamp,
    persisted_at: jiff_sqlx::Timestamp,
    changed_at: jiff_sqlx::Timestamp,
}

impl StoredBooking {
    /// Reads the columns.
    pub(crate) fn read(self) -> Result<BookingRow, sqlx::Error> {
        Ok(BookingRow {
            booking: Booking {
                id: BookingId::from(self.id),
                epoch: Epoch(self.e),
                slot: SlotId::from(self.slot_id),
                patient: PatientId::from(self.patient_id),
                account: AccountId::from(self.account_id),
                key: column::digest(&self.key_digest)?,
                request: column::digest(&self.request_digest)?,
                accepted_at: unix_ms(self.accepted_at),
            },
            state: column::word(&self.state)?,
            reason: self.reason.as_deref().map(column::word).transpose()?,
            number: self.number.map(column::count).transpose()?,
            version: self.version,
            persisted_at: unix_ms(self.persisted_at),
            changed_at: unix_ms(self.changed_at),
        })
    }
}

#[derive(sqlx::FromRow)]
struct CancelAnswer {
    outcome: String,
    #[sqlx(flatten)]
    row: StoredBooking,
}

#[derive(sqlx::FromRow)]
struct StoredChange {
    #[sqlx(flatten)]
    row: StoredBooking,
    hospital_id: i64,
    department_id: i64,
    day: i32,
}

impl StoredChange {
    fn read(self) -> Result<Change, sqlx::Error> {
        Ok(Change {
            row: self.row.read()?,
            hospital: HospitalId::from(self.hospital_id),
            department: DepartmentId::from(self.department_id),
            day: self.day,
        })
    }
}
