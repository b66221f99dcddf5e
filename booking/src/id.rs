//! Identifiers, each a type of its own.
//!
//! In JSON every id is a decimal string, because a 64-bit number does not survive JavaScript.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! id_type {
    ($($(#[$doc:meta])+ $name:ident;)+) => {$(
        $(#[$doc])+
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(i64);

        impl $name {
            /// Returns the raw number.
            pub const fn get(self) -> i64 {
                self.0
            }
        }

        impl From<i64> for $name {
            fn from(raw: i64) -> Self {
                Self(raw)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // A booking's ids are written a dozen times on its way.
                f.write_str(itoa::Buffer::new().format(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(itoa::Buffer::new().format(self.0))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

id_type! {
    /// An account: who logs in. Holds up to five patients.
    AccountId;
    /// A patient: one real person, whichever accounts act for them. Limits bind this id.
    PatientId;
    /// A hospital.
    HospitalId;
    /// A department of a hospital.
    DepartmentId;
    /// A doctor.
    DoctorId;
    /// A clinic session: one doctor, one date, one period.
    SessionId;
    /// A time band of a session. Carries its session, see [`SlotId::session`].
    SlotId;
    /// A release: a batch of slots that goes on offer together.
    ReleaseId;
    /// A booking: a snowflake, see [`crate::snowflake`].
    BookingId;
    /// A message set aside for a person.
    ParkedId;
}

/// How many slots a session may have.
pub const SLOTS_PER_SESSION_MAX: u16 = 256;

/// The largest session id whose slot ids still fit 63 bits.
pub const SESSION_ID_MAX: i64 = (1 << 55) - 1;

impl SlotId {
    /// Names slot number `ordinal` (from 0) of a session.
    ///
    /// A slot id is the session id shifted by eight bits plus the ordinal, so that a request that
    /// names a slot already names its session, and thereby its partition, without a look-up.
    pub const fn of(session: SessionId, ordinal: u8) -> Self {
        Self((session.0 << 8) | ordinal as i64)
    }

    /// Returns the session this slot belongs to.
    pub const fn session(self) -> SessionId {
        SessionId(self.0 >> 8)
    }

    /// Returns the slot's place in its session, from 0.
    pub const fn ordinal(self) -> u8 {
        self.0.to_le_bytes()[0]
    }
}

/// The text is not a positive decimal number of at most 63 bits in its shortest form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is a decimal number between 1 and 9223372036854775807, written as a string")]
pub struct ParseIdError;

impl From<ParseIntError> for ParseIdError {
    fn from(_: ParseIntError) -> Self {
        Self
    }
}

fn parse(text: &str) -> Result<i64, ParseIdError> {
    // One spelling per id: no sign, no leading zero, so that text can be compared as text.
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if !plain {
        return Err(ParseIdError);
    }
    Ok(text.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_string_in_json() {
        let id = SessionId::from(9_007_199_254_740_993);
        let json = serde_json::to_string(&id).expect("serialises");
        assert_eq!(json, "\"9007199254740993\"");
        assert_eq!(serde_json::from_str::<SessionId>(&json).expect("reads back"), id);
        assert!(serde_json::from_str::<SessionId>("12").is_err());
    }

    #[test]
    fn only_the_shortest_positive_spelling_is_an_id() {
        for bad in ["", "0", "-1", "+1", "01", "1 ", "9223372036854775808", "１"] {
            assert_eq!(bad.parse::<BookingId>(), Err(ParseIdError), "{bad:?}");
        }
    }

    #[test]
    fn a_slot_knows_its_session() {
        let slot = SlotId::of(SessionId::from(77), 255);
        assert_eq!((slot.session(), slot.ordinal()), (SessionId::from(77), 255));
    }
}
