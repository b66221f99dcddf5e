//! A patient at two doors: asks at one gateway or the other, repeats what got lost, gives back.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use booking::{BookingId, Clock as _, Digest, SlotId, SystemClock};
use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderValue;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use rush::answer::{Answer, Status, Wish};
use rush::client::{Client, Sent};
use rush::history::{Ask, Event};
use rush::prepare::Member;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::records::Records;

/// How long somebody waits after a lost answer, before jitter.
const RETRY: Duration = Duration::from_millis(200);
/// Nobody is told to come back later than after this.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// How often the gateway that answered last is asked again, in %.
const FAITHFUL_PERCENT: u32 = 80;
/// How often "no such booking" is asked again before it is believed.
const NOT_FOUND_MAX: u32 = 10;
/// How long one question may be held open, s.
const LONG_POLL_S: u32 = 2;

/// What the visitors of a round share.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) doors: Vec<Arc<Client>>,
    pub(super) slots: Vec<SlotId>,
    pub(super) records: Records,
    /// A word that makes the keys of this round its own.
    pub(super) run: String,
    /// When everybody gives up; not known until the faults are over.
    pub(super) deadline: watch::Receiver<Option<Instant>>,
}

/// How a visit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// With a final answer, or on the visitor's own wish.
    Answered,
    /// Without one, when time was up.
    Unanswered,
}

/// One patient on the way.
#[derive(Debug)]
pub(super) struct Visitor {
    member: Member,
    authorization: HeaderValue,
    address: HeaderValue,
    waiting: Arc<Waiting>,
    rng: StdRng,
    door: usize,
}

impl Visitor {
    pub(super) fn new(
        member: Member,
        authorization: HeaderValue,
        waiting: Arc<Waiting>,
        seed: u64,
    ) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let address = Ipv4Addr::from(0x0a00_0000 | (rng.next_u32() & 0x00ff_ffff));
        let address = HeaderValue::from_str(&address.to_string());
        let address = address.unwrap_or_else(|_| HeaderValue::from_static("10.0.0.1"));
        let door = rng.random_range(0..waiting.doors.len().max(1));
        Self { member, authorization, address, waiting, rng, door }
    }

    /// Tries every slot; some click twice, repeat, leave without waiting, or give the place back.
    pub(super) async fn visit(mut self) -> Ending {
        let mut slots = self.waiting.slots.clone();
        slots.shuffle(&mut self.rng);
        let tries = if self.chance(20) { 2 } else { 1 };
        for attempt in 0..tries {
            match self.book_somewhere(&slots, attempt).await {
                Some(Some((id, slot, key))) => match self.follow_through(id, slot, &key).await {
                    Some(has_left) if has_left => return Ending::Answered,
                    // Given back or turned down: perhaps once more, under another key.
                    Some(_) => {}
                    None => return Ending::Unanswered,
                },
                Some(None) => return Ending::Answered,
                None => return Ending::Unanswered,
            }
        }
        Ending::Answered
    }

    /// Takes a place and keeps it; returns the patient if there was none.
    pub(super) async fn take(mut self, attempt: u32) -> Option<Member> {
        let mut slots = self.waiting.slots.clone();
        slots.shuffle(&mut self.rng);
        let taken = self.book_somewhere(&slots, attempt).await.flatten();
        let status = match taken {
            Some((id, _, _)) => self.follow(id).await,
            None => None,
        };
        (status != Some(Status::Booked)).then_some(self.member)
    }

    /// Returns the first booking, `Some(None)` if all slots refuse, `None` when time is up.
    async fn book_somewhere(
        &mut self,
        slots: &[SlotId],
        attempt: u32,
    ) -> Option<Option<(BookingId, SlotId, String)>> {
        for (nth, slot) in slots.iter().enumerate() {
            let key = format!("{}-{}-{attempt}-{nth}", self.waiting.run, self.member.patient);
            if nth == 0 && self.chance(15) {
                // Clicked twice: the second click's answer is only recorded.
                let other = self.ask(*slot, &key, 1 - self.door.min(1));
                let (_, _) = tokio::join!(self.ask(*slot, &key, self.door), other);
            }
            match self.decide(*slot, &key).await? {
                Answer::Booking { id, .. } => return Some(Some((id, *slot, key))),
                Answer::Refused { code, .. } if code == "slot_exhausted" => {}
                _ => return Some(None),
            }
        }
        Some(None)
    }

    /// Asks until the answer is definite; `None` when time is up.
    pub(super) async fn decide(&mut self, slot: SlotId, key: &str) -> Option<Answer> {
        while !self.is_late() {
            let door = self.next_door();
            let answer = self.ask(slot, key, door).await;
            let pause = match &answer {
                Answer::Busy { retry_after_s, .. } => {
                    Duration::from_secs(retry_after_s.unwrap_or(1)).min(RETRY_MAX)
                }
                Answer::Lost | Answer::NotSent => RETRY,
                _ => return Some(answer),
            };
            self.pause(pause).await;
        }
        None
    }

    /// After an answer: true if the visitor leaves, false if the place is given back or was not got.
    async fn follow_through(&mut self, id: BookingId, slot: SlotId, key: &str) -> Option<bool> {
        if self.chance(20) {
            self.decide(slot, key).await?;
        }
        if self.chance(10) {
            // Leaves without waiting for the end.
            return Some(true);
        }
        if self.chance(10) {
            let again = format!("{key}-again");
            self.decide(slot, &again).await?;
        }
        if self.follow(id).await? != Status::Booked {
            return Some(false);
        }
        if !self.chance(25) {
            return Some(true);
        }
        self.cancel(id).await?;
        if self.chance(50) {
            self.decide(slot, key).await?;
        }
        Some(false)
    }

    /// Asks what became of a booking until that is final, or pending and known nowhere any more;
    /// `None` when time is up.
    pub(super) async fn follow(&mut self, id: BookingId) -> Option<Status> {
        let mut not_found = 0;
        let path = format!("/v1/bookings/{id}?wait={LONG_POLL_S}");
        while !self.is_late() {
            let door = self.next_door();
            let invoked_at = SystemClock.now();
            let sent = self.send(door, Method::GET, &path, &self.headers(), String::new()).await;
            let answer = Answer::read(&sent);
            self.record(door, Ask::Status { id }, invoked_at, answer.clone());
            match answer {
                Answer::Booking { status, .. } if status.is_final() => return Some(status),
                Answer::Booking { .. } => self.pause(Duration::from_millis(50)).await,
                Answer::NotFound if not_found >= NOT_FOUND_MAX => return Some(Status::Pending),
                Answer::NotFound => {
                    not_found += 1;
                    self.pause(RETRY).await;
                }
                _ => self.pause(RETRY).await,
            }
        }
        None
    }

    async fn cancel(&mut self, id: BookingId) -> Option<()> {
        let path = format!("/v1/bookings/{id}/cancel");
        while !self.is_late() {
            let door = self.next_door();
            self.waiting.records.record_cancel(id, false);
            let sent = self.send(door, Method::POST, &path, &self.headers(), String::new()).await;
            match sent {
                Sent::Reply(reply) if reply.status == 200 => {
                    self.waiting.records.record_cancel(id, true);
                    return Some(());
                }
                // A refusal for good; the row tells what it was worth.
                Sent::Reply(reply) if reply.status < 429 => return Some(()),
                _ => self.pause(RETRY).await,
            }
        }
        None
    }

    /// Asks for a place, once, at this door.
    pub(super) async fn ask(&self, slot: SlotId, key: &str, door: usize) -> Answer {
        let body = format!(r#"{{"slot_id":"{slot}","patient_id":"{}"}}"#, self.member.patient);
        let mut headers = self.headers();
        headers.extend(HeaderValue::from_str(key).ok().map(|value| ("idempotency-key", value)));
        let invoked_at = SystemClock.now();
        let sent = self.send(door, Method::POST, "/v1/bookings", &headers, body).await;
        let answer = Answer::read(&sent);
        let ask = Ask::Book(Wish { key: Digest::of_key(key), slot });
        self.record(door, ask, invoked_at, answer.clone());
        answer
    }

    async fn send(
        &self,
        door: usize,
        method: Method,
        path: &str,
        headers: &[(&'static str, HeaderValue)],
        body: String,
    ) -> Sent {
        match self.waiting.doors.get(door) {
            Some(client) => client.send(method, path, headers, Bytes::from(body)).await,
            None => Sent::NotSent,
        }
    }

    fn headers(&self) -> Vec<(&'static str, HeaderValue)> {
        let (authorization, address) = (self.authorization.clone(), self.address.clone());
        vec![("authorization", authorization), ("x-forwarded-for", address)]
    }

    fn record(&self, door: usize, ask: Ask, invoked_at: booking::UnixMs, answer: Answer) {
        let (patient, answered_at) = (self.member.patient, SystemClock.now());
        let gateway = u8::try_from(door).ok();
        let event = Event { patient, ask, invoked_at, answered_at, answer, gateway };
        self.waiting.records.record(event);
    }

    fn next_door(&mut self) -> usize {
        if !self.chance(FAITHFUL_PERCENT) {
            self.door = (self.door + 1) % self.waiting.doors.len().max(1);
        }
        self.door
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_ratio(percent, 100)
    }

    fn is_late(&self) -> bool {
        self.waiting.deadline.borrow().is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Waits this long and up to half as long again: retries must not march in step.
    async fn pause(&mut self, for_about: Duration) {
        sleep(for_about.mul_f64(self.rng.random_range(1.0..1.5))).await;
    }
}
