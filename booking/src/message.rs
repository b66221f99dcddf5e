//! What travels between the programs.
//!
//! Every message is JSON with a `v`. A reader takes its own version and the one before, and
//! ignores fields it does not know; a field is never given another meaning. No personal data:
//! a patient is a number here. The golden files beside the tests hold each version's bytes.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMs;
use crate::digest::Digest;
use crate::epoch::Epoch;
use crate::id::{AccountId, BookingId, PatientId, SlotId};
use crate::partition::Partition;

/// The version this code writes.
pub const VERSION: u8 = 1;

/// The most bookings one envelope carries.
pub const BOOKINGS_PER_ENVELOPE_MAX: usize = 64;

/// More than the JSON of most bookings takes, in bytes, and than its entry in a manifest.
const ENCODED_BYTES_MOSTLY: usize = 288;
const MANIFEST_BYTES_MOSTLY: usize = 48;

/// One booking as the gateway accepted it: all the worker needs to make it durable.
///
/// The same JSON object stands in the outbox in Redis, in an envelope and in a parked row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Booking {
    /// Its id, minted before any quota was touched.
    pub id: BookingId,
    /// The epoch whose quota it took.
    pub epoch: Epoch,
    /// The slot.
    pub slot: SlotId,
    /// The person to be seen.
    pub patient: PatientId,
    /// The account that asked.
    pub account: AccountId,
    /// Digest of the idempotency key.
    pub key: Digest,
    /// Digest of the request, see [`Digest::of_request`].
    pub request: Digest,
    /// When the gateway accepted it.
    pub accepted_at: UnixMs,
}

/// Bookings of one partition that share one AMQP message: confirmed, or not, together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Message version.
    pub v: u8,
    /// At most [`BOOKINGS_PER_ENVELOPE_MAX`] bookings.
    pub bookings: Vec<Booking>,
}

/// A mark behind everything published under a sealed epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barrier {
    /// Message version.
    pub v: u8,
    /// The partition whose queue it travels.
    pub partition: Partition,
    /// The sealed epoch.
    pub epoch: Epoch,
    /// `None` from the reconciler; a consumer that meets it echoes it with its own life's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo_of: Option<String>,
}

/// A message of a bookings queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Bookings to persist.
    Envelope(Envelope),
    /// A barrier, or the echo of one.
    Barrier(Barrier),
}

/// AMQP `type` of an envelope.
pub const TYPE_ENVELOPE: &str = "slotrush.bookings";
/// AMQP `type` of a barrier or echo.
pub const TYPE_BARRIER: &str = "slotrush.barrier";

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The AMQP type is none of ours.
    #[error("unknown message type {0:?}")]
    Type(String),
    /// A version this code does not read.
    #[error("message version {0} is not readable")]
    Version(u8),
    /// More bookings than an envelope may hold, or none.
    #[error("an envelope of {0} bookings")]
    Size(usize),
    /// Not the JSON it should be. Says where, not what: a payload is never logged.
    #[error("malformed at line {line}, column {column}")]
    Json {
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault, from 1.
        column: usize,
    },
}

impl From<serde_json::Error> for DecodeError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json { line: error.line(), column: error.column() }
    }
}

impl Booking {
    /// Writes the booking as JSON, the form of the outbox.
    pub fn encode(&self) -> String {
        let mut json = String::with_capacity(ENCODED_BYTES_MOSTLY);
        self.write(&mut json);
        json
    }

    /// Appends that JSON. Each booking is written twice on its way to the queue, and nothing in it needs
    /// to be escaped: by the library's means, which look, that was a tenth of its instructions.
    fn write(&self, json: &mut String) {
        let Self { id, epoch, slot, patient, account, key, request, accepted_at } = self;
        let mut number = itoa::Buffer::new();
        let mut text = |name: &str, value: i64, end: &str| {
            json.push_str(name);
            json.push_str(number.format(value));
            json.push_str(end);
        };
        text("{\"id\":\"", id.get(), "\"");
        text(",\"epoch\":", epoch.0, "");
        text(",\"slot\":\"", slot.get(), "\"");
        text(",\"patient\":\"", patient.get(), "\"");
        text(",\"account\":\"", account.get(), "\"");
        json.push_str(",\"key\":\"");
        key.with_text(|key| json.push_str(key));
        json.push_str("\",\"request\":\"");
        request.with_text(|request| json.push_str(request));
        json.push_str("\",\"accepted_at\":");
        json.push_str(number.format(accepted_at.0));
        json.push('}');
    }

    /// Reads a booking from the outbox's form.
    pub fn decode(json: &[u8]) -> Result<Self, DecodeError> {
        Ok(serde_json::from_slice(json)?)
    }
}

impl Envelope {
    /// Packs bookings in this code's version.
    pub fn new(bookings: Vec<Booking>) -> Self {
        Self { v: VERSION, bookings }
    }

    /// Lists `id:epoch:slot` of every booking: the header that still tells what an envelope may
    /// hold when its body cannot be read.
    pub fn manifest(&self) -> String {
        let mut manifest = String::with_capacity(self.bookings.len() * MANIFEST_BYTES_MOSTLY);
        let mut number = itoa::Buffer::new();
        for Booking { id, epoch, slot, .. } in &self.bookings {
            let separator = if manifest.is_empty() { "" } else { "," };
            for (before, value) in [(separator, id.get()), (":", epoch.0), (":", slot.get())] {
                manifest.push_str(before);
                manifest.push_str(number.format(value));
            }
        }
        manifest
    }

    /// Writes the body of its message.
    fn encode(&self) -> String {
        let mut json = String::with_capacity(self.bookings.len() * ENCODED_BYTES_MOSTLY);
        json.push_str("{\"v\":");
        json.push_str(itoa::Buffer::new().format(self.v));
        json.push_str(",\"bookings\":[");
        for (at, booking) in self.bookings.iter().enumerate() {
            if at > 0 {
                json.push(',');
            }
            booking.write(&mut json);
        }
        json.push_str("]}");
        json
    }
}

/// One entry of an envelope's manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestEntry {
    /// The booking.
    pub id: BookingId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its slot.
    pub slot: SlotId,
}

/// Reads an envelope's manifest; `None` if any part of it is malformed.
pub fn parse_manifest(text: &str) -> Option<Vec<ManifestEntry>> {
    text.split(',')
        .map(|entry| {
            let mut parts = entry.split(':');
            let id = parts.next()?.parse().ok()?;
            let epoch = Epoch(parts.next()?.parse().ok()?);
            let slot = parts.next()?.parse().ok()?;
            parts.next().is_none().then_some(ManifestEntry { id, epoch, slot })
        })
        .collect()
}

impl Message {
    /// Returns the AMQP `type` of this message.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Envelope(_) => TYPE_ENVELOPE,
            Self::Barrier(_) => TYPE_BARRIER,
        }
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Envelope(envelope) => envelope.encode().into_bytes(),
            Self::Barrier(barrier) => serde_json::to_vec(barrier).unwrap_or_default(),
        }
    }

    /// Reads a body by its AMQP `type`.
    pub fn decode(kind: &str, body: &[u8]) -> Result<Self, DecodeError> {
        #[derive(Deserialize)]
        struct Versioned {
            v: u8,
        }
        if kind != TYPE_ENVELOPE && kind != TYPE_BARRIER {
            return Err(DecodeError::Type(kind.chars().take(64).collect()));
        }
        let Versioned { v } = serde_json::from_slice(body)?;
        if v != VERSION {
            return Err(DecodeError::Version(v));
        }
        if kind == TYPE_BARRIER {
            return Ok(Self::Barrier(serde_json::from_slice(body)?));
        }
        let envelope: Envelope = serde_json::from_slice(body)?;
        if envelope.bookings.is_empty() || envelope.bookings.len() > BOOKINGS_PER_ENVELOPE_MAX {
            return Err(DecodeError::Size(envelope.bookings.len()));
        }
        Ok(Self::Envelope(envelope))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn booking() -> Booking {
        let (slot, patient) = (SlotId::from(19_713), PatientId::from(8));
        Booking {
            id: BookingId::from(117_093_590_311_632_897),
            epoch: Epoch(3),
            slot,
            patient,
            account: AccountId::from(5),
            key: Digest::of_key("0f1e"),
            request: Digest::of_request(slot, patient),
            accepted_at: UnixMs(1_795_158_000_123),
        }
    }

    /// The bytes of version 1 are in the queues of running deployments: they must stay readable.
    #[test]
    fn version_1_reads_its_golden_files() {
        let envelope = Message::Envelope(Envelope::new(vec![booking()]));
        let barrier = Message::Barrier(Barrier {
            v: 1,
            partition: Partition::new(7),
            epoch: Epoch(3),
            echo_of: Some("c0ffee".into()),
        });
        for (message, golden) in [
            (envelope, include_str!("../golden/envelope.v1.json")),
            (barrier, include_str!("../golden/barrier.v1.json")),
        ] {
            assert_eq!(String::from_utf8_lossy(&message.encode()), golden.trim_end());
            let read = Message::decode(message.kind(), golden.as_bytes()).expect("golden reads");
            assert_eq!(read, message);
        }
    }

    #[test]
    fn a_field_of_a_later_version_is_ignored() {
        let mut json: serde_json::Value = serde_json::from_str(&booking().encode()).expect("json");
        json["later"] = true.into();
        assert_eq!(Booking::decode(json.to_string().as_bytes()).expect("reads"), booking());
    }

    #[test]
    fn another_version_type_or_size_is_refused() {
        let decode = |kind, body: &str| Message::decode(kind, body.as_bytes());
        assert!(matches!(decode(TYPE_ENVELOPE, r#"{"v":9}"#), Err(DecodeError::Version(9))));
        assert!(matches!(decode("other", "{}"), Err(DecodeError::Type(_))));
        let empty = decode(TYPE_ENVELOPE, r#"{"v":1,"bookings":[]}"#);
        assert!(matches!(empty, Err(DecodeError::Size(0))));
    }

    #[test]
    fn the_manifest_tells_what_an_envelope_holds() {
        let envelope = Envelope::new(vec![booking(), booking()]);
        let entries = parse_manifest(&envelope.manifest()).expect("reads back");
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[0].id, entries[0].slot), (booking().id, booking().slot));
        assert_eq!(parse_manifest("1:2"), None);
    }

    proptest! {
        /// The outbox, the queue and parked rows hold one form, whoever wrote it.
        #[test]
        fn a_booking_is_written_as_the_library_would_write_it(
            numbers: [i64; 6], digests: [[u8; 16]; 2],
        ) {
            let [id, epoch, slot, patient, account, accepted_at] = numbers;
            let [key, request] = digests.map(Digest::from_bytes);
            let booking = Booking {
                id: id.into(),
                epoch: Epoch(epoch),
                slot: slot.into(),
                patient: patient.into(),
                account: account.into(),
                key,
                request,
                accepted_at: UnixMs(accepted_at),
            };
            prop_assert_eq!(booking.encode(), serde_json::to_string(&booking).expect("json"));
            let envelope = Envelope::new(vec![booking.clone(), booking]);
            let json = serde_json::to_vec(&envelope).expect("json");
            prop_assert_eq!(Message::Envelope(envelope).encode(), json);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(kind in prop_oneof![Just(TYPE_ENVELOPE), Just(TYPE_BARRIER)], body: Vec<u8>) {
            let _ = Message::decode(kind, &body);
            let _ = Booking::decode(&body);
        }

        /// Nearly right is where parsers go wrong.
        #[test]
        fn a_message_with_some_bytes_changed_is_decoded_or_refused(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let message = Message::Envelope(Envelope::new(vec![booking(), booking()]));
            let mut body = message.encode();
            for (at, byte) in changes {
                let at = at.index(body.len());
                body[at] = byte;
            }
            if let Ok(Message::Envelope(read)) = Message::decode(TYPE_ENVELOPE, &body) {
                prop_assert!(parse_manifest(&read.manifest()).is_some());
            }
        }

        #[test]
        fn any_text_is_a_manifest_or_none(text in "\\PC{0,60}|[0-9:,-]{0,60}") {
            if let Some(entries) = parse_manifest(&text) {
                prop_assert_eq!(entries.len(), text.split(',').count());
            }
        }
    }
}
