//! Messages set aside for a person: parking, listing, step P1.
use booking::{Booking, BookingId, Epoch, ParkedId, Partition, SlotId, UnixMs};
use crate::persist::Outcome;
use crate::{Error, Ledger};
/// What is parked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parked {
    /// One booking that can't be persisted.
    Booking(Booking),
    /// A message that can't be read, with what its manifest says it held (epoch and so on unknown if none).
    Message {
        /// The booking it may hold; one row per manifest entry, one with `None` if there is no manifest.
        entry: Option<booking::message::ManifestEntry>,
        /// The raw body.
        body: Vec<u8>,
    },
}
/// A parked row, for lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedRow {
    /// Its id.
    pub id: ParkedId,
    /// Its partition.
    pub partition: Partition,
    /// The epoch, if known.
    pub epoch: Option<Epoch>,
    /// The booking, if known.
    pub booking: Option<BookingId>,
    /// The slot, if known.
    pub slot: Option<SlotId>,
    /// A stable word.
    pub reason: String,
    /// More, without personal data.
    pub detail: String,
    /// Whether it can be replayed.
    pub replayable: bool,
    /// When.
    pub parked_at: UnixMs,
}
/// The outcome of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// Persisted and no longer parked.
    Done(Outcome),
    /// Still refused: it stays parked.
    StillRefused(String),
    /// Not a readable booking.
    NotReplayable,
    /// No such row.
    NotFound,
}
impl Ledger {
    /// Parks messages; one that is parked already (same booking) stays as it is.
    pub async fn park(&self, partition: Partition, reason: &str, detail: &str, parked: &[Parked]) -> Result<(), Error> { unimplemented!() }
    /// Lists parked rows, latest first, older than `before`.
    pub async fn parked(&self, before: Option<ParkedId>, limit: u16) -> Result<Vec<ParkedRow>, Error> { unimplemented!() }
    /// P1: persists a parked booking and deletes its row in one transaction.
    pub async fn replay_parked(&self, id: ParkedId) -> Result<Replayed, Error> { unimplemented!() }
    /// Deletes a parked message that can't be replayed, on an admin's word; false if there is none.
    pub async fn discard_parked(&self, id: ParkedId) -> Result<bool, Error> { unimplemented!() }
}
