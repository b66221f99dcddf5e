//! Short, stable digests of what must be compared but not carried: idempotency keys and bodies.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::id::{PatientId, SlotId};

/// The first 128 bits of a SHA-256, written as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 16]);

impl Digest {
    /// Digests a client's `Idempotency-Key`. The key itself is never stored or sent on.
    pub fn of_key(key: &str) -> Self {
        Self::of(&[b"key\0", key.as_bytes()])
    }

    /// Digests what a booking request asks for, so that the same key with another wish is noticed.
    pub fn of_request(slot: SlotId, patient: PatientId) -> Self {
        Self::of(&[b"request\0", &slot.get().to_be_bytes(), &patient.get().to_be_bytes()])
    }

    /// Returns the raw bytes, as stored in PostgreSQL.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Restores a digest from its raw bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Hands its text over. Each booking's two digests are written four times on its way to the queue, and
    /// by the formatter's own means, digit pair by digit pair, that was an eighth of its instructions.
    pub(crate) fn with_text<T>(&self, take: impl FnOnce(&str) -> T) -> T {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        take(std::str::from_utf8(&text).unwrap_or_default())
    }

    fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        let full = hasher.finalize();
        let mut short = [0; 16];
        short.copy_from_slice(&full[..16]);
        Self(short)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.write_str(text))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 32 hexadecimal digits")]
pub struct ParseDigestError;

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ParseDigestError);
        }
        let mut bytes = [0; 16];
        for (byte, at) in bytes.iter_mut().zip((0..32).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| ParseDigestError)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_text(|text| serializer.serialize_str(text))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let digest = Digest::from_bytes([
            0x00, 0x09, 0x0a, 0x0f, 0x10, 0x90, 0xa0, 0xf0, 0x7f, 0x80, 0xff, 1, 2, 3, 4, 5,
        ]);
        assert_eq!(digest.to_string(), "00090a0f1090a0f07f80ff0102030405");
        assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        assert!("xyz".parse::<Digest>().is_err());
        assert!("é".repeat(16).parse::<Digest>().is_err());
    }

    #[test]
    fn another_slot_or_patient_is_another_request() {
        let wish = |slot, patient| Digest::of_request(SlotId::from(slot), PatientId::from(patient));
        assert_eq!(wish(1, 2), wish(1, 2));
        assert_ne!(wish(1, 2), wish(2, 1));
    }
}
