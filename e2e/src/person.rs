//! One patient, request by request, for tests that say exactly who does what.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use booking::{BookingId, Clock as _, Digest, SlotId, SystemClock};
use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderValue;
use rush::answer::{Answer, Status, Wish};
use rush::client::{Client, Sent};
use rush::history::{Ask, Event};
use rush::prepare::Member;
use testkit::eventually;
use tokio::time::{Instant, sleep};

use crate::SOON;

/// How often somebody impatient asks.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Everything that anybody asked and heard.
#[derive(Clone, Debug, Default)]
pub struct Events(Arc<Mutex<Vec<Event>>>);

impl Events {
    /// Adds some, in the order of their answers.
    pub fn extend(&self, events: impl IntoIterator<Item = Event>) {
        let mut all = self.lock();
        all.extend(events);
        // Several crowds at once hand theirs over one after the other.
        all.sort_by_key(|event| event.answered_at);
    }

    /// Returns all so far.
    pub fn all(&self) -> Vec<Event> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A patient with a token, at one gateway.
#[derive(Clone, Debug)]
pub struct Person {
    pub(crate) member: Member,
    pub(crate) headers: Vec<(&'static str, HeaderValue)>,
    pub(crate) client: Arc<Client>,
    pub(crate) events: Events,
}

impl Person {
    /// Returns who it is.
    pub fn member(&self) -> Member {
        self.member
    }

    /// Asks for a place, once.
    pub async fn book(&self, slot: SlotId, key: &str) -> Answer {
        let mut headers = self.headers.clone();
        headers.extend(HeaderValue::from_str(key).ok().map(|value| ("idempotency-key", value)));
        let body = format!(r#"{{"slot_id":"{slot}","patient_id":"{}"}}"#, self.member.patient);
        let ask = Ask::Book(Wish { key: Digest::of_key(key), slot });
        self.say(ask, Method::POST, "/v1/bookings", &headers, body).await
    }

    /// Asks what became of a booking, once; the gateway may keep the answer back for a second.
    pub async fn status(&self, id: BookingId) -> Answer {
        let path = format!("/v1/bookings/{id}?wait=1");
        self.say(Ask::Status { id }, Method::GET, &path, &self.headers, String::new()).await
    }

    /// Asks for a place until the answer is more than "come back later".
    pub async fn book_when_ready(&self, slot: SlotId, key: &str) -> Answer {
        let is_definite = |answer: &Answer| {
            !matches!(answer, Answer::Busy { .. } | Answer::Lost | Answer::NotSent)
        };
        self.book_until(slot, key, is_definite).await
    }

    /// Asks for a place until the answer is a booking, taking refusals for "not yet".
    pub async fn book_at_last(&self, slot: SlotId, key: &str) -> Result<BookingId> {
        let is_booking = |answer: &Answer| matches!(answer, Answer::Booking { .. });
        match self.book_until(slot, key, is_booking).await {
            Answer::Booking { id, .. } => Ok(id),
            other => bail!("no place: {other:?}"),
        }
    }

    async fn book_until(
        &self,
        slot: SlotId,
        key: &str,
        is_enough: impl Fn(&Answer) -> bool,
    ) -> Answer {
        let deadline = Instant::now() + SOON;
        loop {
            let answer = self.book(slot, key).await;
            if is_enough(&answer) || Instant::now() >= deadline {
                return answer;
            }
            // Twice as often as an account may for long, but not for long.
            sleep(ASK_EVERY).await;
        }
    }

    /// Asks what became of a booking until that is final.
    pub async fn follow(&self, id: BookingId) -> Result<Status> {
        eventually("a final answer", SOON, || async {
            match self.status(id).await {
                Answer::Booking { status, .. } if status.is_final() => Some(status),
                _ => None,
            }
        })
        .await
    }

    /// Asks for a place that must be given, and waits until it is certain.
    pub async fn get(&self, slot: SlotId, key: &str) -> Result<BookingId> {
        let answer = self.book(slot, key).await;
        let Answer::Booking { id, .. } = answer else { bail!("no place: {answer:?}") };
        match self.follow(id).await? {
            Status::Booked => Ok(id),
            other => bail!("booking {id} is {}", other.as_str()),
        }
    }

    /// Gives a place back.
    pub async fn cancel(&self, id: BookingId) -> Result<()> {
        let path = format!("/v1/bookings/{id}/cancel");
        match self.client.send(Method::POST, &path, &self.headers, Bytes::new()).await {
            Sent::Reply(reply) if reply.status == 200 => Ok(()),
            other => bail!("not cancelled: {other:?}"),
        }
    }

    async fn say(
        &self,
        ask: Ask,
        method: Method,
        path: &str,
        headers: &[(&'static str, HeaderValue)],
        body: String,
    ) -> Answer {
        let invoked_at = SystemClock.now();
        let sent = self.client.send(method, path, headers, Bytes::from(body)).await;
        let answer = Answer::read(&sent);
        let answered_at = SystemClock.now();
        let (patient, told) = (self.member.patient, answer.clone());
        // Tests restart gateways without a note of it.
        let gateway = None;
        self.events.extend([Event {
            patient,
            ask,
            invoked_at,
            answered_at,
            answer: told,
            gateway,
        }]);
        answer
    }
}
