//! G1: asking for a place.

use std::str::FromStr;

use booking::{Booking, BookingId, Epoch, Partition, SessionId, UnixMs};
use redis::Value;
use tokio::sync::oneshot;

use crate::error::{Error, unreadable};
use crate::reply::Reply;
use crate::script::{Call, HOLD};
use crate::{Inventory, keys, packed};

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
    /// G1: takes a place for `booking` and writes it in the outbox, in one call with whoever else asks
    /// in this partition meanwhile. Each is judged as if it had come alone.
    ///
    /// After [`Error::Unknown`] the place may be taken: the next try must mint a new booking id.
    pub async fn hold(
        &self,
        partition: Partition,
        booking: &Booking,
        now: UnixMs,
    ) -> Result<Hold, Error> {
        let (tell, told) = oneshot::channel();
        self.hold_then(partition, booking, now, |hold| drop(tell.send(hold)));
        told.await.unwrap_or(Err(Error::Unknown))
    }

    /// As [`Self::hold`], for who needs not be there: `then` is called with the outcome, by whoever read
    /// Redis's answer and with others behind it, so it must be quick and wait for nothing. Dropped uncalled,
    /// the outcome is [`Error::Unknown`].
    pub fn hold_then(
        &self,
        partition: Partition,
        booking: &Booking,
        now: UnixMs,
        then: impl FnOnce(Result<Hold, Error>) + Send + 'static,
    ) {
        self.lanes.hold_then(partition, Wish { booking: booking.clone(), now }, then);
    }
}

/// A booking that wants a place.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) booking: Booking,
    /// What the windows of releases are judged by.
    pub(crate) now: UnixMs,
}

/// Makes one call of wishes of one partition, to be judged in their order.
pub(crate) fn call<'a>(
    partition: Partition,
    wishes: impl Iterator<Item = &'a Wish> + Clone,
) -> Call {
    let mut sessions: Vec<SessionId> = Vec::new();
    for session in wishes.clone().map(|wish| wish.booking.slot.session()) {
        if !sessions.contains(&session) {
            sessions.push(session);
        }
    }
    let mut keys = vec![keys::ledger(partition), keys::out(partition), keys::releases(partition)];
    // Where a session's keys begin in Lua, which counts from 1.
    let first = keys.len() + 1;
    for session in &sessions {
        keys.push(keys::session(partition, *session));
        keys.push(keys::who(partition, *session));
    }
    wishes.fold(Call::new(&HOLD, &keys), |call, Wish { booking, now }| {
        let is_its = |session: &SessionId| *session == booking.slot.session();
        let at = first + 2 * sessions.iter().position(is_its).unwrap_or(0);
        call.arg(booking.epoch.0)
            .arg(at)
            .arg(booking.slot.ordinal())
            .arg(booking.patient.get())
            .arg(booking.id.get())
            .arg(packed::entry(booking, true))
            .arg(now.0)
            .arg(booking.encode())
    })
}

/// Reads what became of so many wishes, in their order.
pub(crate) fn parse(value: Value, count: usize) -> Result<Vec<Result<Hold, Error>>, Error> {
    let mut reply = Reply::parse(value)?;
    if reply.word() != "judged" {
        return Err(unreadable("reply"));
    }
    (0..count).map(|_| reply.next::<String>().map(|text| judged(&text))).collect()
}

fn judged(text: &str) -> Result<Hold, Error> {
    let mut words = Words(text.split(' '));
    Ok(match words.0.next().unwrap_or_default() {
        "held" => Hold::Held { left: words.next()?, ticket: words.next()?, settled: words.next()? },
        "replayed" => Hold::Replayed {
            id: words.next()?,
            epoch: Epoch(words.next()?),
            live: match words.next()? {
                0 => false,
                1 => true,
                _ => return Err(unreadable("reply")),
            },
        },
        "key_reused" => Hold::KeyReused,
        "already_booked" => Hold::AlreadyBooked { id: words.next()? },
        "sold_out" => Hold::SoldOut,
        "not_open" => Hold::NotOpen { opens_at: UnixMs(words.next()?) },
        "paused" => Hold::Paused,
        "closed" => Hold::Closed,
        "not_preheated" => Hold::NotPreheated,
        "other_epoch" => Hold::OtherEpoch { current: Epoch(words.next()?) },
        "shut" => Hold::Shut,
        "fenced" => Hold::Fenced,
        _ => return Err(unreadable("reply")),
    })
}

/// What follows the first word of an answer.
struct Words<'a>(std::str::Split<'a, char>);

impl Words<'_> {
    fn next<T: FromStr>(&mut self) -> Result<T, Error> {
        let word = self.0.next().ok_or_else(|| unreadable("reply"))?;
        word.parse().map_err(|_| unreadable("reply"))
    }
}
