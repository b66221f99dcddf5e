//! Bookings as rows: reading, following, cancelling, lapsing.
use booking::{AccountId, Booking, BookingId, DepartmentId, HospitalId, Partition, PatientId, Reason, State, UnixMs};
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
/// A live booking, as the limits see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRow {
    /// Whose.
    pub patient: PatientId,
    /// Which.
    pub id: BookingId,
    /// Where.
    pub hospital: HospitalId,
    /// Where.
    pub department: DepartmentId,
    /// Days since 1970-01-01 of the session's date.
    pub day: i32,
    /// False when it was given back.
    pub live: bool,
    /// When the row last changed.
    pub changed_at: UnixMs,
}
impl Ledger {
    /// Returns the rows of these ids, in no order. One statement.
    pub async fn find_bookings(&self, ids: &[BookingId]) -> Result<Vec<BookingRow>, Error> { unimplemented!() }
    /// Returns an account's bookings, latest first, older than `before`.
    pub async fn bookings_of_account(&self, account: AccountId, before: Option<BookingId>, limit: u16) -> Result<Vec<BookingRow>, Error> { unimplemented!() }
    /// C1: cancels a live booking, by compare-and-set on its version.
    pub async fn cancel(&self, id: BookingId, account: AccountId) -> Result<Cancelled, Error> { unimplemented!() }
    /// S1: ends a pending booking that nothing holds any more. The caller has checked the outbox of the current ledger.
    pub async fn lapse(&self, booking: &Booking) -> Result<Lapsed, Error> { unimplemented!() }
    /// Returns a partition's rows changed since `since`, oldest change first, at most `limit`.
    pub async fn changed_since(&self, partition: Partition, since: UnixMs, limit: u16) -> Result<Vec<BookingRow>, Error> { unimplemented!() }
    /// Returns bookings, changed since `since`, of sessions from today on (all live ones if `since` is 0), oldest change first, at most `limit`.
    pub async fn held_since(&self, since: UnixMs, limit: u32) -> Result<Vec<HeldRow>, Error> { unimplemented!() }
}
