//! Step W1: bookings become durable rows.
use booking::{Booking, BookingId, Partition, Reason, State};
use crate::{Error, Ledger};
/// What became of one booking of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has its row, made now or before.
    Row {
        /// Its state.
        state: State,
        /// Why, if rejected.
        reason: Option<Reason>,
        /// Its number in the slot.
        number: Option<u32>,
    },
    /// Its id has a row of another patient, slot or epoch. To be parked.
    IdConflict,
    /// Its epoch or allotment was never opened. To be parked.
    UnknownAllotment,
}
/// The answer for one booking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persisted {
    /// The booking.
    pub id: BookingId,
    /// What became of it.
    pub outcome: Outcome,
}
impl Ledger {
    /// Persists bookings of one partition, one statement per wave of distinct patients and ids
    /// (one wave unless a patient is in the batch twice). Returns what the database returned, for
    /// every id it returned; an id that is missing was not persisted.
    /// `Contended` is retried inside a few times. `Refused` names the constraint one of them broke.
    pub async fn persist(&self, partition: Partition, bookings: &[Booking]) -> Result<Vec<Persisted>, Error> { unimplemented!() }
}
