//! Quota in Redis, behind typed calls. The only crate that speaks Redis.

use std::collections::BTreeMap;

use booking::{
    Booking, BookingId, Digest, Epoch, Nonce, Partition, PatientId, ReleaseId, SessionId, SlotId,
    Term, UnixMs,
};
use secrecy::SecretString;

/// How to reach Redis.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `redis://…`
    pub url: SecretString,
    /// Multiplexed connections of the hot path.
    pub connections: usize,
    /// How long an answer may take before its outcome is unknown.
    pub response_timeout_ms: u64,
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The call was certainly not run: there is no connection.
    #[error("Redis is not reachable")]
    Unavailable,
    /// The call was sent and may have run.
    #[error("no answer from Redis: the call may have run")]
    Unknown,
    /// Redis answered, with an error or with something this code can't read.
    #[error("Redis refused the call: {0}")]
    Refused(String),
}

/// The outcome of asking for a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// One place is set aside for this booking id, and the booking stands in the outbox.
    Held {
        /// Quota of the slot that is left.
        left: u32,
        /// The count of holds of this partition, this one included.
        ticket: u64,
        /// How many of them were settled so far.
        settled: u64,
    },
    /// The same key and request came before: their booking, under its own epoch.
    Replayed {
        /// The first attempt's id.
        id: BookingId,
        /// The first attempt's epoch.
        epoch: Epoch,
        /// False once cancelled or rejected.
        live: bool,
    },
    /// The key came before with another request.
    KeyReused,
    /// The patient has a live booking in this session under another key.
    AlreadyBooked {
        /// That booking.
        id: BookingId,
    },
    /// No quota left now. A returned place may change that.
    SoldOut,
    /// The slot's release opens later.
    NotOpen {
        /// When.
        opens_at: UnixMs,
    },
    /// The slot's release is paused.
    Paused,
    /// The slot's release is over.
    Closed,
    /// The ledger knows no such slot.
    NotPreheated,
    /// The ledger is of another epoch than the caller's.
    OtherEpoch {
        /// The ledger's.
        current: Epoch,
    },
    /// There is no open ledger: missing, a shell, or frozen.
    Shut,
    /// The ledger was given to another life of Redis.
    Fenced,
}

/// A cumulative grant of quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The slot.
    pub slot: SlotId,
    /// All that the epoch was ever granted of it.
    pub granted: u32,
    /// The release whose window binds it.
    pub release: ReleaseId,
}

/// A release's window, as judged inside the hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First instant of booking.
    pub opens_at: UnixMs,
    /// First instant after booking.
    pub closes_at: UnixMs,
    /// Held up by an admin.
    pub paused: bool,
    /// A lower version never replaces a higher one.
    pub version: u64,
}

/// A slot's counters in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotCount {
    /// The slot.
    pub slot: SlotId,
    /// Still to sell.
    pub left: u32,
    /// Ever granted in this epoch.
    pub granted: u32,
    /// Sold in this epoch.
    pub sold: u32,
}

/// What the ledger of a partition says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerHead {
    /// Its epoch; `Epoch::NONE` for a shell that was never opened.
    pub epoch: Epoch,
    /// The term written in it.
    pub term: Term,
    /// Its nonce.
    pub nonce: Nonce,
    /// Whether it sells.
    pub open: bool,
    /// Holds counted.
    pub held: u64,
    /// Of these settled.
    pub settled: u64,
}

/// A look at one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The ledger, if there is one.
    pub ledger: Option<LedgerHead>,
    /// The server's own term now.
    pub term: Term,
    /// Entries in the outbox.
    pub outbox_len: u64,
}

/// The outcome of preparing a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// An empty closed shell with the given nonce now stands, on this term.
    Shell(Term),
    /// The ledger is current and true: nothing was done.
    NotNeeded,
}

/// The outcome of a step that only the true ledger takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<T = ()> {
    /// Done, now or before.
    Done(T),
    /// Not the ledger it was meant for; nothing was done.
    Refused,
}

/// The outbox of a partition, in part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outbox {
    /// Entries that could be read.
    pub bookings: Vec<Booking>,
    /// Entries that could not: their field and raw value.
    pub unreadable: Vec<(String, String)>,
}

/// Handles to Redis. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Inventory {}

impl Inventory {
    /// Starts the supervised connections and returns at once; calls answer
    /// [`Error::Unavailable`] until they stand. Fails only on a malformed address.
    pub fn start(settings: &Settings) -> Result<Self, Error> { unimplemented!() }
    /// Tells whether a primary Redis answers now.
    pub fn is_up(&self) -> bool { unimplemented!() }
    /// Asks Redis for a sign of life.
    pub async fn ping(&self) -> Result<(), Error> { unimplemented!() }
    /// G1: takes a place for `booking` and writes it in the outbox.
    pub async fn hold(&self, partition: Partition, booking: &Booking, now: UnixMs) -> Result<Hold, Error> { unimplemented!() }
    /// R1: prepares a shell if the ledger is missing, of another term, behind `current`, or `current` is sealed.
    pub async fn prepare(&self, partition: Partition, nonce: &Nonce, current: Epoch, is_sealed: bool) -> Result<Prepared, Error> { unimplemented!() }
    /// R3: opens the shell with this nonce on this term as epoch `epoch`. Never creates a ledger. Safe to repeat.
    pub async fn open(&self, partition: Partition, epoch: Epoch, term: &Term, nonce: &Nonce) -> Result<Step, Error> { unimplemented!() }
    /// R5: raises grants of one session's slots, and fills in who already holds a live booking there. Cumulative.
    pub async fn apply(&self, partition: Partition, epoch: Epoch, nonce: &Nonce, session: SessionId, grants: &[Grant], live: &[Booking]) -> Result<Step, Error> { unimplemented!() }
    /// Sets a release's window in one partition.
    pub async fn set_window(&self, partition: Partition, release: ReleaseId, window: Window) -> Result<(), Error> { unimplemented!() }
    /// R6: shuts the ledger and returns the counters of these sessions. Safe to repeat for further sessions.
    pub async fn freeze(&self, partition: Partition, epoch: Epoch, nonce: &Nonce, sessions: &[SessionId]) -> Result<Step<Vec<SlotCount>>, Error> { unimplemented!() }
    /// Reads the counters of these sessions, of whatever epoch the ledger is; sessions it does not hold are absent.
    pub async fn snapshot(&self, partition: Partition, sessions: &[SessionId]) -> Result<Vec<SlotCount>, Error> { unimplemented!() }
    /// W4: takes persisted bookings out of the outbox and notes whether each is live. Pipelined.
    pub async fn settle(&self, partition: Partition, settled: &[(Booking, bool)]) -> Result<(), Error> { unimplemented!() }
    /// Looks at a partition's ledger.
    pub async fn inspect(&self, partition: Partition) -> Result<Inspection, Error> { unimplemented!() }
    /// Reads up to about `limit` outbox entries, from all over it in no order; scans on where the last call stopped (cursor, 0 to start and when done).
    pub async fn scan_outbox(&self, partition: Partition, cursor: u64, limit: usize) -> Result<(u64, Outbox), Error> { unimplemented!() }
    /// Reads one booking of the outbox.
    pub async fn find(&self, id: BookingId) -> Result<Option<Booking>, Error> { unimplemented!() }
    /// Counts the whole outbox by epoch.
    pub async fn outbox_epochs(&self, partition: Partition) -> Result<BTreeMap<Epoch, u64>, Error> { unimplemented!() }
}
