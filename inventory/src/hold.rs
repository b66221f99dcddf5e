//! G1: asking for a place.

use booking::{Booking, BookingId, Epoch, Partition, UnixMs};
use redis::Value;

use crate::error::{Error, unreadable};
use crate::reply::Reply;
use crate::script::{Call, HOLD};
use crate::{Inventory, keys};

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

impl Inventory {
    /// G1: takes a place for `booking` and writes it in the outbox.
    ///
    /// After [`Error::Unknown`] the place may be taken: the next try must mint a new booking id.
    pub async fn hold(
        &self,
        partition: Partition,
        booking: &Booking,
        now: UnixMs,
    ) -> Result<Hold, Error> {
        parse(self.links.call_hot(&call(partition, booking, now)).await?)
    }
}

pub(crate) fn call(partition: Partition, booking: &Booking, now: UnixMs) -> Call {
    let session = booking.slot.session();
    let keys = [
        keys::ledger(partition),
        keys::session(partition, session),
        keys::who(partition, session),
        keys::out(partition),
        keys::releases(partition),
    ];
    Call::new(&HOLD, &keys)
        .arg(booking.epoch.0)
        .arg(booking.slot.ordinal())
        .arg(booking.patient.get())
        .arg(booking.id.get())
        .arg(booking.key.to_string())
        .arg(booking.request.to_string())
        .arg(now.0)
        .arg(booking.encode())
}

pub(crate) fn parse(value: Value) -> Result<Hold, Error> {
    let mut reply = Reply::parse(value)?;
    Ok(match reply.word() {
        "held" => Hold::Held { left: reply.next()?, ticket: reply.next()?, settled: reply.next()? },
        "replayed" => Hold::Replayed {
            id: reply.next()?,
            epoch: Epoch(reply.next()?),
            live: match reply.next()? {
                0 => false,
                1 => true,
                _ => return Err(unreadable("reply")),
            },
        },
        "key_reused" => Hold::KeyReused,
        "already_booked" => Hold::AlreadyBooked { id: reply.next()? },
        "sold_out" => Hold::SoldOut,
        "not_open" => Hold::NotOpen { opens_at: UnixMs(reply.next()?) },
        "paused" => Hold::Paused,
        "closed" => Hold::Closed,
        "not_preheated" => Hold::NotPreheated,
        "other_epoch" => Hold::OtherEpoch { current: Epoch(reply.next()?) },
        "shut" => Hold::Shut,
        "fenced" => Hold::Fenced,
        _ => return Err(unreadable("reply")),
    })
}
