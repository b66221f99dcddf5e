//! What there is: two Redis nodes, the queue, PostgreSQL, the requests under way.
//!
//! Everything is a small number or a flag, so that a state is copied and hashed fast. A booking's
//! id is the place of its request in the scope; 0 stands for no epoch.

use booking::{Reason, State as RowState};

use crate::list::List;
use crate::scope::Budget;

/// Requests at most.
pub const REQUESTS_MAX: usize = 6;
/// Patients at most.
pub const PATIENTS_MAX: usize = 3;
/// Slots at most, all of one session.
pub const SLOTS_MAX: usize = 2;
/// Epochs at most. Budgets keep below; a completion adds a few.
pub const EPOCHS_MAX: usize = 14;
/// Messages in the queue at most.
pub const QUEUE_MAX: usize = 24;

/// Which life of which Redis data set, as numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Term {
    /// The process.
    pub run: u8,
    /// The data set.
    pub replid: u8,
}

/// What a ledger says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shelf {
    /// Prepared, empty.
    Shell,
    /// Sells.
    Open,
    /// Shut for good.
    Frozen,
}

/// The head of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Head {
    /// Epoch.
    pub e: u8,
    /// State.
    pub shelf: Shelf,
    /// Term it was prepared on.
    pub term: Term,
    /// Nonce of the shell.
    pub nonce: u8,
}

/// Counters of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Count {
    /// For sale.
    pub left: i8,
    /// Granted so far.
    pub granted: i8,
    /// Sold so far.
    pub sold: i8,
}

/// What Redis knows of a patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Who {
    /// The booking.
    pub id: u8,
    /// Whether it holds a place.
    pub live: bool,
}

/// What a Redis node keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Data {
    /// The ledger, if any.
    pub head: Option<Head>,
    /// The epoch the session was loaded for.
    pub stamp: u8,
    /// Counters.
    pub slots: [Count; SLOTS_MAX],
    /// Patients known.
    pub who: [Option<Who>; PATIENTS_MAX],
    /// The outbox: by booking id the epoch of the entry.
    pub out: [u8; REQUESTS_MAX],
}

/// A Redis node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node {
    /// What it says it is.
    pub term: Term,
    /// Whether it takes writes.
    pub is_primary: bool,
    /// What it keeps.
    pub data: Data,
}

/// A message of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Up to two bookings, each an id and its epoch.
    Envelope {
        /// The bookings.
        bookings: [Option<(u8, u8)>; 2],
        /// Which of them are done with, for all the consumer knows.
        done: [bool; 2],
        /// Whether the body can be read.
        legible: bool,
    },
    /// A barrier, or its echo.
    Barrier {
        /// The sealed epoch.
        e: u8,
        /// Whether it is the echo of the consumer that is there now.
        own: bool,
    },
}

impl Default for Message {
    fn default() -> Self {
        Self::Barrier { e: 0, own: false }
    }
}

/// How an epoch stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EpochState {
    /// Its ledger may sell.
    #[default]
    Open,
    /// No more promises.
    Sealed,
    /// No more rows.
    Closed,
}

/// A row of `epoch` with its allotments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EpochRow {
    /// State.
    pub state: EpochState,
    /// Term it was opened for.
    pub term: Term,
    /// Nonce of its shell.
    pub nonce: u8,
    /// Ended with its sold counts.
    pub frozen: bool,
    /// Its barrier came through.
    pub drained: bool,
    /// Granted, by slot.
    pub granted: [i8; SLOTS_MAX],
    /// Consumed, by slot.
    pub consumed: [i8; SLOTS_MAX],
}

/// A row of `booking`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// State.
    pub state: RowState,
    /// Why it was rejected.
    pub reason: Option<Reason>,
    /// Epoch.
    pub e: u8,
}

/// A parked booking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Parked {
    /// Its epoch.
    pub e: u8,
    /// Whether it can be replayed.
    pub legible: bool,
}

/// PostgreSQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sql {
    /// What is on offer, by slot: at most its capacity.
    pub target: [i8; SLOTS_MAX],
    /// Live bookings by slot, as counted.
    pub booked: [i8; SLOTS_MAX],
    /// Set aside for ledgers, by slot.
    pub escrowed: [i8; SLOTS_MAX],
    /// Epochs, the first is number 1.
    pub epochs: List<EpochRow, EPOCHS_MAX>,
    /// Rows by booking id.
    pub rows: [Option<Row>; REQUESTS_MAX],
    /// Parked bookings by id.
    pub parked: [Option<Parked>; REQUESTS_MAX],
    /// Whether the session was withdrawn.
    pub withdrawn: bool,
}

/// Where a request is. One that takes no further step is one whose gateway died or was cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Request {
    /// Not sent yet.
    #[default]
    Fresh,
    /// Its booking, its own or the first answer's, is to be published.
    Held(u8, u8),
    /// As before, with the check already made (only without the guard).
    Vouched(u8, u8),
    /// Published and confirmed.
    Confirmed(u8, u8),
    /// Definitively refused.
    Refused,
    /// Over.
    Done,
}

/// Where a reconciler is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reconciler {
    /// Between rounds.
    #[default]
    Idle,
    /// It has read that this epoch is the current one, and whether it is sealed.
    Looked(u8, bool),
    /// After R1: current epoch, nonce, term.
    Shell(u8, u8, Term),
    /// After R2: the epoch opened, nonce, term.
    Opened(u8, u8, Term),
    /// After R4: epoch, nonce, grants and live bookings as read.
    Grants(u8, u8, [i8; SLOTS_MAX], u8),
    /// After R6 in Redis: epoch and what was sold.
    Frozen(u8, [i8; SLOTS_MAX]),
    /// The outbox held nothing of this epoch.
    Clear(u8),
}

/// What the model remembers to judge by, and nobody in the system knows. Sets are bit masks by id.
#[expect(clippy::struct_excessive_bools, reason = "each is a fault of its own")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// Somebody was told "queued".
    pub queued: u8,
    /// By id, the epoch it was held in last, 0 if never.
    pub held_in: [u8; REQUESTS_MAX],
    /// In the outbox of the primary ever since the hold.
    pub kept: u8,
    /// Known by patient and key to the primary ever since the hold.
    pub known: u8,
    /// A second id was given to a key that Redis knew (I8).
    pub key_twice: bool,
    /// A row took a step that is not legal (I10).
    pub illegal: bool,
    /// A constraint had to refuse what the protocol should never try.
    pub check_fired: bool,
    /// A booking whose outbox entry never was lost was rejected as late or lapsed.
    pub kept_lost: bool,
}

/// All there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// Redis.
    pub nodes: [Node; 2],
    /// The node that everybody but an old gateway speaks to.
    pub primary: u8,
    /// Next new `run_id` or `master_replid`.
    pub next_life: u8,
    /// Next nonce.
    pub next_nonce: u8,
    /// RabbitMQ.
    pub queue: List<Message, QUEUE_MAX>,
    /// Delivered to a consumer that was cancelled and still has them (only without the guard).
    pub stray: List<Message, 2>,
    /// PostgreSQL.
    pub sql: Sql,
    /// Requests.
    pub requests: [Request; REQUESTS_MAX],
    /// Bookings that a gateway found nowhere and is about to lapse, by bit.
    pub lapsing: u8,
    /// Reconcilers.
    pub reconcilers: [Reconciler; 2],
    /// What may still happen.
    pub budget: Budget,
    /// For judging.
    pub ghost: Ghost,
}

/// The bit of an id in a mask.
pub const fn bit(id: u8) -> u8 {
    1 << id
}

impl Sql {
    /// Returns the number of the latest epoch, 0 if there is none.
    pub fn current(&self) -> u8 {
        u8::try_from(self.epochs.len()).unwrap_or(u8::MAX)
    }

    /// Returns an epoch by number.
    pub fn epoch(&self, e: u8) -> Option<&EpochRow> {
        self.epochs.items().get(usize::from(e).wrapping_sub(1))
    }

    /// Returns an epoch by number, to be changed.
    pub fn epoch_mut(&mut self, e: u8) -> Option<&mut EpochRow> {
        self.epochs.items_mut().get_mut(usize::from(e).wrapping_sub(1))
    }

    /// Tells whether an epoch is in this state.
    pub fn is(&self, e: u8, state: EpochState) -> bool {
        self.epoch(e).is_some_and(|row| row.state == state)
    }
}

impl State {
    /// The node that is the primary for everybody.
    pub fn redis(&self) -> &Node {
        &self.nodes[usize::from(self.primary)]
    }

    /// The primary's data, to be changed.
    pub fn redis_mut(&mut self) -> &mut Node {
        &mut self.nodes[usize::from(self.primary)]
    }
}
