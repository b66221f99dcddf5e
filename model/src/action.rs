//! Everything that can happen, one atomic step each.

use std::fmt;

/// One step of somebody, or one fault. Numbers are places in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// G1 on a node.
    Hold {
        /// Request.
        request: u8,
        /// Redis node.
        node: u8,
    },
    /// G4 broken: an unknown hold is tried again under its id.
    HoldAgain(u8),
    /// G3 before the publish: broken.
    Vouch(u8),
    /// G2 and its confirm.
    Publish(u8),
    /// G2 of two requests in one envelope.
    PublishBoth(u8, u8),
    /// G2, returned by the broker.
    Return(u8),
    /// G2 of unknown outcome, and quota given back: broken.
    GiveBack(u8),
    /// G3 and the answer.
    Check(u8),
    /// Y1.
    Relay(u8),
    /// W1, W2 of a message.
    Persist(u8),
    /// W1 of all messages in front in one wave without its guards.
    PersistWave,
    /// W1 whose answer leaves bookings out.
    Silence(u8),
    /// W1 refused for good: parked.
    Park(u8),
    /// W3.
    Ack(u8),
    /// W5, W6.
    Meet,
    /// W4.
    Settle(u8),
    /// The channel closes, or the worker dies.
    CloseChannel,
    /// As before, and so many messages in hand come back behind all others.
    CloseScrambled(u8),
    /// Nack with requeue: broken.
    Nack(u8),
    /// Dead-lettered, to be consumed from the parking queue: broken.
    DeadLetter(u8),
    /// Cancelled with so many messages unacknowledged: broken.
    CancelConsumer(u8),
    /// What the cancelled consumer or the parking queue had is consumed.
    StrayReturn,
    /// A reconciler reads where things are.
    Look(u8),
    /// R1.
    Prepare(u8),
    /// R2.
    OpenRow(u8),
    /// R3.
    OpenLedger(u8),
    /// R4 and the read for R5.
    TopUp(u8),
    /// R5.
    Apply(u8),
    /// R6 in Redis.
    FreezeLedger(u8),
    /// R6 in PostgreSQL.
    FreezeRow(u8),
    /// R8 of an epoch.
    Barrier(u8),
    /// R9: the look at the outbox, for an epoch.
    LookOutbox(u8, u8),
    /// R9, of an epoch.
    Close(u8, u8),
    /// C1.
    Cancel(u8),
    /// S1: the look, of a booking and at a node.
    LookLapse(u8, u8),
    /// S1.
    Lapse(u8),
    /// P1.
    ReplayParked(u8),
    /// An admin discards what can't be replayed and has its row.
    Discard(u8),
    /// The session is withdrawn.
    Withdraw,
    /// An admin lowers what is on offer by a place.
    Lower,
    /// FLUSHALL.
    Flush,
    /// Redis restarts with its data.
    Restart,
    /// The replica gets what the primary has.
    Sync,
    /// The replica becomes the primary.
    FailOver,
    /// The former primary becomes the new one's replica.
    Demote,
    /// The queue loses everything.
    LoseQueue,
    /// A message can't be read.
    Corrupt(u8),
    /// A reconciler dies.
    Die(u8),
}

impl Action {
    /// Tells whether this is a misfortune, not somebody's work.
    pub fn is_fault(self) -> bool {
        matches!(
            self,
            Self::Return(_)
                | Self::Silence(_)
                | Self::Park(_)
                | Self::CloseChannel
                | Self::CloseScrambled(_)
                | Self::Nack(_)
                | Self::DeadLetter(_)
                | Self::CancelConsumer(_)
                | Self::Lower
                | Self::Withdraw
                | Self::Flush
                | Self::Restart
                | Self::Sync
                | Self::FailOver
                | Self::Demote
                | Self::LoseQueue
                | Self::Corrupt(_)
                | Self::Die(_)
        )
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Hold { request, node } => write!(f, "G1 request {request} holds on Redis {node}"),
            Self::HoldAgain(r) => write!(f, "G4 request {r} holds again under the same id"),
            Self::Vouch(r) => write!(f, "G3 request {r} checks the epoch, before publishing"),
            Self::Publish(r) => write!(f, "G2 request {r} publishes and gets its confirm"),
            Self::PublishBoth(a, b) => write!(f, "G2 requests {a} and {b} share an envelope"),
            Self::Return(r) => write!(f, "G2 request {r} publishes and is returned"),
            Self::GiveBack(r) => {
                write!(f, "G2 request {r} publishes, hears nothing, gives quota back")
            }
            Self::Check(r) => write!(f, "G3 request {r} checks the epoch and answers"),
            Self::Relay(b) => write!(f, "Y1 relay publishes booking {b}"),
            Self::Persist(at) => write!(f, "W1 worker persists message {at}"),
            Self::PersistWave => write!(f, "W1 worker persists all messages in one statement"),
            Self::Silence(at) => write!(f, "W1 worker hears nothing of a booking of message {at}"),
            Self::Park(at) => write!(f, "W1 refused for good: worker parks message {at}"),
            Self::Ack(at) => write!(f, "W3 worker acks message {at}"),
            Self::Meet => write!(f, "W5 worker meets the barrier in front"),
            Self::Settle(b) => write!(f, "W4 booking {b} is settled"),
            Self::CloseChannel => write!(f, "!! channel closes, all is delivered again"),
            Self::CloseScrambled(n) => {
                write!(f, "!! channel closes, {n} come back behind all others")
            }
            Self::Nack(at) => write!(f, "!! worker nacks message {at} with requeue"),
            Self::DeadLetter(at) => write!(f, "!! message {at} is dead-lettered"),
            Self::Lower => write!(f, "!! an admin lowers what is on offer"),
            Self::CancelConsumer(n) => write!(f, "!! consumer cancelled with {n} unacknowledged"),
            Self::StrayReturn => write!(f, "!! what was held back is delivered"),
            Self::Look(r) => write!(f, "R0 reconciler {r} looks"),
            Self::Prepare(r) => write!(f, "R1 reconciler {r} prepares a shell"),
            Self::OpenRow(r) => write!(f, "R2 reconciler {r} seals the epoch and opens the next"),
            Self::OpenLedger(r) => write!(f, "R3 reconciler {r} opens the ledger"),
            Self::TopUp(r) => write!(f, "R4 reconciler {r} grants what is free"),
            Self::Apply(r) => write!(f, "R5 reconciler {r} applies the grants"),
            Self::FreezeLedger(r) => write!(f, "R6 reconciler {r} freezes the ledger"),
            Self::FreezeRow(r) => write!(f, "R6 reconciler {r} seals the frozen epoch"),
            Self::Barrier(e) => write!(f, "R8 barrier of epoch {e} is published"),
            Self::LookOutbox(r, e) => {
                write!(f, "R9 reconciler {r} finds nothing of epoch {e} in the outbox")
            }
            Self::Close(r, e) => write!(f, "R9 reconciler {r} closes epoch {e}"),
            Self::Cancel(b) => write!(f, "C1 booking {b} is cancelled"),
            Self::LookLapse(b, node) => write!(f, "S1 booking {b} is nowhere on Redis {node}"),
            Self::Lapse(b) => write!(f, "S1 booking {b} lapses"),
            Self::ReplayParked(b) => write!(f, "P1 parked booking {b} is replayed"),
            Self::Discard(b) => write!(f, "P1 parked booking {b} is discarded"),
            Self::Withdraw => write!(f, "!! the session is withdrawn"),
            Self::Flush => write!(f, "!! FLUSHALL"),
            Self::Restart => write!(f, "!! Redis restarts with its data"),
            Self::Sync => write!(f, "!! the replica catches up"),
            Self::FailOver => write!(f, "!! the replica becomes the primary"),
            Self::Demote => write!(f, "!! the former primary becomes a replica"),
            Self::LoseQueue => write!(f, "!! the queue loses everything"),
            Self::Corrupt(at) => write!(f, "!! message {at} can't be read"),
            Self::Die(r) => write!(f, "!! reconciler {r} dies"),
        }
    }
}
