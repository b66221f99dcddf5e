//! Requests of the crowd in order, and what the answers come to.

use std::sync::Arc;

use booking::SlotId;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Crowd;
use crate::load::{Answer, Outcome, Request, Work};

/// Sessions that a patient's next wish lies further on, so that nobody asks for two slots of one session.
const SESSIONS_APART: usize = 37;
/// Neighbours in the crowd want slots this far from each other.
const SLOTS_APART: usize = 13;

/// Everybody asks for a place, one after the other.
#[derive(Debug)]
pub struct Bookings {
    crowd: Arc<Crowd>,
    path: &'static str,
    slots: Arc<[SlotId]>,
    slots_per_session: usize,
    /// The number of the next request.
    next: usize,
    end: usize,
    /// Where ids of accepted bookings go, if anybody wants them.
    accepted: Option<mpsc::Sender<Taken>>,
    /// The first answer that was neither a place nor "sold out".
    complaint: Option<String>,
}

/// A booking that was accepted.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Which patient of the crowd.
    pub patient: usize,
    /// Its id.
    pub id: String,
    /// When the answer was read.
    pub at: Instant,
}

impl Bookings {
    /// From request number `first` on, each patient for one slot of each session; of one slot, each
    /// patient once.
    pub fn new(
        crowd: &Arc<Crowd>,
        path: &'static str,
        slots: &[SlotId],
        slots_per_session: usize,
        first: usize,
    ) -> Self {
        let sessions = slots.len() / slots_per_session.max(1);
        Self {
            crowd: Arc::clone(crowd),
            path,
            slots: slots.into(),
            slots_per_session,
            next: first,
            end: crowd.len() * sessions,
            accepted: None,
            complaint: None,
        }
    }

    /// The first answer that was neither a place nor "sold out".
    pub fn complaint(&self) -> &str {
        self.complaint.as_deref().unwrap_or("nothing else")
    }

    /// Tells ids of accepted bookings; those that the channel has no room for are not told.
    #[must_use]
    pub fn telling(mut self, accepted: mpsc::Sender<Taken>) -> Self {
        self.accepted = Some(accepted);
        self
    }

    /// Ends after this many requests.
    #[must_use]
    pub fn only(mut self, count: usize) -> Self {
        self.end = self.end.min(self.next + count);
        self
    }

    /// The number of the next request: where the next round goes on.
    pub const fn next_number(&self) -> usize {
        self.next
    }

    fn slot(&self, number: usize) -> SlotId {
        let (patient, visit) = (number % self.crowd.len(), number / self.crowd.len());
        let apart = visit * SESSIONS_APART * self.slots_per_session;
        self.slots[(patient * SLOTS_APART + apart) % self.slots.len()]
    }
}

impl Work for Bookings {
    fn next(&mut self) -> Option<Request> {
        let number = self.next;
        if number >= self.end {
            return None;
        }
        self.next += 1;
        let bytes = self.crowd.booking(self.path, number, self.slot(number));
        Some(Request { bytes, tag: number as u64 })
    }

    fn judge(&mut self, answer: &Answer<'_>) -> Outcome {
        let outcome = outcome(answer);
        if matches!(outcome, Outcome::Failed | Outcome::Shed) && self.complaint.is_none() {
            let body = String::from_utf8_lossy(answer.body);
            self.complaint = Some(format!("{} {body}", answer.status));
        }
        if let (Outcome::Accepted, Some(told)) = (outcome, &self.accepted)
            && let Some(id) = id_in(answer.body)
        {
            let patient = usize::try_from(answer.tag).unwrap_or(0) % self.crowd.len();
            let _ = told.try_send(Taken { patient, id, at: Instant::now() });
        }
        outcome
    }
}

/// What an answer to a booking comes to: 202 of the pipeline and 200 of the others is a place.
fn outcome(answer: &Answer<'_>) -> Outcome {
    match answer.status {
        200 | 202 => Outcome::Accepted,
        409 if memchr::memmem::find(answer.body, b"\"slot_exhausted\"").is_some() => {
            Outcome::Refused
        }
        429 | 503 => Outcome::Shed,
        _ => Outcome::Failed,
    }
}

fn id_in(body: &[u8]) -> Option<String> {
    let view: serde_json::Value = serde_json::from_slice(body).ok()?;
    Some(view["id"].as_str()?.to_owned())
}

/// The same requests over and over, made beforehand.
#[derive(Debug)]
pub struct Again {
    requests: Arc<[Bytes]>,
    next: usize,
    expected: Expected,
}

/// What all answers should be.
#[derive(Clone, Copy, Debug)]
enum Expected {
    Status(u16),
    SoldOut,
}

impl Again {
    /// Expects one status for all; any other is a failure, but 429 and 503, which are shed.
    pub fn new(requests: Vec<Bytes>, expected: u16) -> Self {
        Self { requests: requests.into(), next: 0, expected: Expected::Status(expected) }
    }

    /// Expects "sold out" for all.
    pub fn sold_out(requests: Vec<Bytes>) -> Self {
        Self { requests: requests.into(), next: 0, expected: Expected::SoldOut }
    }
}

impl Work for Again {
    fn next(&mut self) -> Option<Request> {
        let bytes = self.requests[self.next % self.requests.len()].clone();
        self.next += 1;
        Some(bytes.into())
    }

    fn judge(&mut self, answer: &Answer<'_>) -> Outcome {
        match (self.expected, answer.status) {
            (Expected::Status(expected), status) if status == expected => Outcome::Accepted,
            (Expected::Status(_), 429 | 503) => Outcome::Shed,
            (Expected::Status(_), _) => Outcome::Failed,
            (Expected::SoldOut, _) => outcome(answer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use booking::SessionId;

    use super::*;

    #[test]
    fn nobody_asks_for_two_slots_of_one_session() {
        let slots: Vec<SlotId> = (1..=100)
            .flat_map(|session| (0..20).map(move |n| SlotId::of(SessionId::from(session), n)))
            .collect();
        let crowd = Arc::new(Crowd::of_nobody(50));
        let bookings = Bookings::new(&crowd, "/", &slots, 20, 0);
        for patient in 0..50 {
            let sessions: BTreeSet<_> =
                (0..100).map(|visit| bookings.slot(visit * 50 + patient).session()).collect();
            assert_eq!(sessions.len(), 100);
        }
    }

    #[test]
    fn answers_are_told_apart() {
        let outcome =
            |status, body: &str| outcome(&Answer { tag: 0, status, body: body.as_bytes() });
        assert_eq!(outcome(202, "{}"), Outcome::Accepted);
        assert_eq!(outcome(409, r#"{"code":"slot_exhausted"}"#), Outcome::Refused);
        assert_eq!(outcome(409, r#"{"code":"already_booked"}"#), Outcome::Failed);
        assert_eq!(outcome(503, ""), Outcome::Shed);
        assert_eq!(id_in(br#"{"id":"7","status":"queued"}"#).as_deref(), Some("7"));
    }
}
