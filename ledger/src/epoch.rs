//! Epochs and their allotments: steps R2, R4, R6, R9, W6 and the check G3 of the protocol.
use booking::{Epoch, Nonce, Partition, ReleaseId, SessionId, SlotId, Term, UnixMs, Booking};
use crate::{Error, Ledger};
/// An epoch's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochState {
    /// Redis may sell.
    Open,
    /// Nothing may be answered "queued" under it.
    Sealed,
    /// Its unused quota is back.
    Closed,
}
/// An epoch's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochRow {
    /// Its partition.
    pub partition: Partition,
    /// Its number.
    pub epoch: Epoch,
    /// The Redis life it was given to.
    pub term: Term,
    /// Ties it to the shell.
    pub nonce: Nonce,
    /// Its state.
    pub state: EpochState,
    /// Ended on purpose, sold counts known.
    pub frozen: bool,
    /// Whether its barrier came through.
    pub drained: bool,
}
/// A cumulative grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The slot.
    pub slot: SlotId,
    /// All the epoch was granted.
    pub granted: u32,
    /// Its release.
    pub release: ReleaseId,
}
/// The outcome of opening an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The new epoch.
    Epoch(Epoch),
    /// Somebody else opened one first.
    Overtaken,
}
/// The outcome of closing an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Closed, now or before.
    Done,
    /// Not sealed, not drained, or parked messages are in the way.
    NotYet,
}
/// A release's window to be told to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseWindow {
    /// The release.
    pub release: ReleaseId,
    /// First instant of booking.
    pub opens_at: UnixMs,
    /// First instant after.
    pub closes_at: UnixMs,
    /// Held up by an admin.
    pub paused: bool,
    /// Counts changes.
    pub version: u64,
}
impl Ledger {
    /// Returns every unclosed epoch and each partition's latest, by partition and number.
    pub async fn epochs(&self) -> Result<Vec<EpochRow>, Error> { unimplemented!() }
    /// G3: tells for each epoch whether it is still open (not sealed, not closed), in order. One statement.
    pub async fn are_open(&self, epochs: &[(Partition, Epoch)]) -> Result<Vec<bool>, Error> { unimplemented!() }
    /// R2: seals `current` (if any) and opens the next epoch with all that is free, in one transaction.
    pub async fn open_epoch(&self, partition: Partition, current: Epoch, term: &Term, nonce: &Nonce) -> Result<Opened, Error> { unimplemented!() }
    /// R4: grants what is free to the open epoch. Returns the grants that changed.
    pub async fn top_up(&self, partition: Partition, epoch: Epoch) -> Result<Vec<Grant>, Error> { unimplemented!() }
    /// Returns all grants of an epoch.
    pub async fn grants(&self, partition: Partition, epoch: Epoch) -> Result<Vec<Grant>, Error> { unimplemented!() }
    /// R6: seals a frozen epoch with its sold counts; slots not named were not sold at all beyond what was consumed... 
    pub async fn freeze(&self, partition: Partition, epoch: Epoch, sold: &[(SlotId, u32)]) -> Result<Closed, Error> { unimplemented!() }
    /// W6: notes that the epoch's barrier came through.
    pub async fn record_drained(&self, partition: Partition, epoch: Epoch) -> Result<(), Error> { unimplemented!() }
    /// R9: closes a sealed epoch if it is drained (or frozen with all consumed) and nothing of it is parked. The caller has checked the outbox.
    pub async fn close_epoch(&self, partition: Partition, epoch: Epoch) -> Result<Closed, Error> { unimplemented!() }
    /// Returns the live bookings of these sessions.
    pub async fn live_of_sessions(&self, sessions: &[SessionId]) -> Result<Vec<Booking>, Error> { unimplemented!() }
    /// Returns the windows of releases that are preheated, or were closed in the last hour.
    pub async fn windows(&self) -> Result<Vec<ReleaseWindow>, Error> { unimplemented!() }
    /// Preheats planned releases that open within `lead_ms` and ends those past `closes_at`; returns how many changed.
    pub async fn advance_releases(&self, lead_ms: i64) -> Result<u64, Error> { unimplemented!() }
    /// Tells whether the open epoch holds quota of slots that are no longer on offer (target below booked + escrowed): a freeze gets it back.
    pub async fn has_excess(&self, partition: Partition) -> Result<bool, Error> { unimplemented!() }
}
