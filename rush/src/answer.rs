//! What the gateway may answer, read into words.

use booking::{BookingId, Reason, SlotId, State, UnixMs};
use serde::{Deserialize, Serialize};

use crate::client::{Reply, Sent};

/// What a booking was said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Promised: it will have its final row.
    Queued,
    /// Perhaps accepted.
    Pending,
    /// The patient has the place.
    Booked,
    /// Ended without a place.
    Rejected,
    /// Given back.
    Cancelled,
}

impl Status {
    /// Tells whether nothing but a legal transition may follow.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Pending => false,
            Self::Booked | Self::Rejected | Self::Cancelled => true,
        }
    }

    /// Returns the durable state this status claims, if it is a final one.
    pub const fn state(self) -> Option<State> {
        match self {
            Self::Queued | Self::Pending => None,
            Self::Booked => Some(State::Booked),
            Self::Rejected => Some(State::Rejected),
            Self::Cancelled => Some(State::Cancelled),
        }
    }

    /// Returns the word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Pending => "pending",
            Self::Booked => "booked",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One answer to one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Answer {
    /// A booking, new or known.
    Booking {
        /// Its id.
        id: BookingId,
        /// What it is said to be.
        status: Status,
        /// Why, if rejected.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Reason>,
    },
    /// Definitely nothing came of this attempt.
    Refused {
        /// The problem's `code`.
        code: String,
        /// When to come back, if that was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        opens_at: Option<UnixMs>,
    },
    /// Come back later. Whether the attempt took effect is open unless `is_definite`.
    Busy {
        /// The problem's `code`.
        code: String,
        /// `Retry-After`, s; `None` where it should have been and was not.
        retry_after_s: Option<u64>,
        /// A limit stood before anything was tried.
        is_definite: bool,
    },
    /// No such thing, the gateway says.
    NotFound,
    /// The answer was lost, or none came in time.
    Lost,
    /// There was no connection: the request was certainly not sent.
    NotSent,
    /// An answer that is not in the contract.
    Strange {
        /// HTTP status.
        http: u16,
        /// The problem's `code`, if any.
        code: String,
    },
}

#[derive(Deserialize)]
struct BookingBody {
    id: BookingId,
    status: Status,
    #[serde(default)]
    reason: Option<Reason>,
}

#[derive(Default, Deserialize)]
struct ProblemBody {
    #[serde(default)]
    code: String,
    #[serde(default)]
    opens_at: Option<String>,
}

impl Answer {
    /// Reads what came of sending a request.
    pub fn read(sent: &Sent) -> Self {
        match sent {
            Sent::NotSent => Self::NotSent,
            Sent::Lost => Self::Lost,
            Sent::Reply(reply) => Self::of_reply(reply),
        }
    }

    fn of_reply(reply: &Reply) -> Self {
        if (200..300).contains(&reply.status) {
            return match serde_json::from_slice::<BookingBody>(&reply.body) {
                Ok(body) => Self::Booking { id: body.id, status: body.status, reason: body.reason },
                Err(_) => Self::Strange { http: reply.status, code: "unreadable".to_owned() },
            };
        }
        let problem: ProblemBody = serde_json::from_slice(&reply.body).unwrap_or_default();
        let code = problem.code;
        match reply.status {
            404 => Self::NotFound,
            409 => {
                let opens_at = problem.opens_at.and_then(|text| parse_time(&text));
                Self::Refused { code, opens_at }
            }
            429 => Self::Busy { code, retry_after_s: reply.retry_after_s, is_definite: true },
            503 => Self::Busy { code, retry_after_s: reply.retry_after_s, is_definite: false },
            http => Self::Strange { http, code },
        }
    }

    /// Returns the word this answer is counted under.
    pub fn outcome(&self) -> &str {
        match self {
            Self::Booking { status, .. } => status.as_str(),
            Self::Refused { code, .. } | Self::Busy { code, .. } => code,
            Self::NotFound => "not_found",
            Self::Lost => "lost",
            Self::NotSent => "not_sent",
            Self::Strange { .. } => "strange",
        }
    }
}

/// Reads an RFC 3339 time.
pub fn parse_time(text: &str) -> Option<UnixMs> {
    let at: jiff::Timestamp = text.parse().ok()?;
    Some(UnixMs(at.as_millisecond()))
}

/// What a patient was told about one slot, as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// Digest of the idempotency key.
    pub key: booking::Digest,
    /// The slot.
    pub slot: SlotId,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, retry_after_s: Option<u64>, body: &'static str) -> Answer {
        Answer::read(&Sent::Reply(Reply { status, retry_after_s, body: body.into() }))
    }

    #[test]
    fn a_booking_is_read_with_its_status_and_reason() {
        let queued = reply(202, Some(1), r#"{"id":"7","status":"queued","slot_id":"256"}"#);
        let id = BookingId::from(7);
        assert_eq!(queued, Answer::Booking { id, status: Status::Queued, reason: None });
        let rejected = reply(200, None, r#"{"id":"7","status":"rejected","reason":"superseded"}"#);
        let reason = Some(Reason::Superseded);
        assert_eq!(rejected, Answer::Booking { id, status: Status::Rejected, reason });
    }

    #[test]
    fn a_refusal_carries_its_code_and_the_opening() {
        let answer = reply(
            409,
            None,
            r#"{"code":"release_not_open","opens_at":"1970-01-01T08:00:01+08:00"}"#,
        );
        let opens_at = Some(UnixMs(1_000));
        assert_eq!(answer, Answer::Refused { code: "release_not_open".to_owned(), opens_at });
    }

    #[test]
    fn only_a_limit_is_a_definite_come_back_later() {
        assert!(matches!(reply(429, Some(2), "{}"), Answer::Busy { is_definite: true, .. }));
        assert!(matches!(reply(503, None, "x"), Answer::Busy { is_definite: false, .. }));
    }

    #[test]
    fn what_is_not_in_the_contract_is_strange() {
        assert!(matches!(reply(500, None, ""), Answer::Strange { http: 500, .. }));
        assert!(matches!(reply(200, None, "<html>"), Answer::Strange { http: 200, .. }));
    }
}
