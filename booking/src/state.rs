//! What may become of a booking.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The durable state of a booking, as PostgreSQL remembers it.
///
/// "Queued" and "pending" are not here: they are answers given while there is no row yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The patient has the place (FHIR: booked).
    Booked,
    /// The patient, or the hospital, gave the place back (FHIR: cancelled).
    Cancelled,
    /// The attempt ended without a place, for the row's [`Reason`].
    Rejected,
}

impl State {
    /// Tells whether the booking occupies a place of its slot.
    pub const fn is_live(self) -> bool {
        match self {
            Self::Booked => true,
            Self::Cancelled | Self::Rejected => false,
        }
    }

    /// Tells whether `next` may follow. There are no other transitions.
    pub const fn may_become(self, next: Self) -> bool {
        matches!((self, next), (Self::Booked, Self::Cancelled))
    }

    /// Returns the word stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Booked => "booked",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
        }
    }
}

/// Why a booking was rejected. Final, and never for capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The patient already has a live booking in this session.
    AlreadyBooked,
    /// The patient reached one of the hospital's limits.
    LimitReached,
    /// The same idempotency key already stands for another booking.
    Superseded,
    /// The session was withdrawn before the booking was settled.
    Withdrawn,
    /// The booking arrived after its epoch was closed. Nobody was ever told "queued".
    Late,
    /// A pending booking that nothing holds any more. Nobody was ever told "queued".
    Lapsed,
}

impl Reason {
    /// Returns the word stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AlreadyBooked => "already_booked",
            Self::LimitReached => "limit_reached",
            Self::Superseded => "superseded",
            Self::Withdrawn => "withdrawn",
            Self::Late => "late",
            Self::Lapsed => "lapsed",
        }
    }
}

/// The stored word is not one this version knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} {word:?}")]
pub struct UnknownWord {
    what: &'static str,
    word: String,
}

impl FromStr for State {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        [Self::Booked, Self::Cancelled, Self::Rejected]
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or_else(|| UnknownWord { what: "state", word: word.to_owned() })
    }
}

impl FromStr for Reason {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        [
            Self::AlreadyBooked,
            Self::LimitReached,
            Self::Superseded,
            Self::Withdrawn,
            Self::Late,
            Self::Lapsed,
        ]
        .into_iter()
        .find(|reason| reason.as_str() == word)
        .ok_or_else(|| UnknownWord { what: "reason", word: word.to_owned() })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_final_state_stays() {
        for dead in [State::Cancelled, State::Rejected] {
            for next in [State::Booked, State::Cancelled, State::Rejected] {
                assert!(!dead.may_become(next), "{dead} -> {next}");
            }
        }
        assert!(State::Booked.may_become(State::Cancelled));
        assert!(!State::Booked.may_become(State::Rejected));
    }
}
