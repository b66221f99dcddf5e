//! One patient's visit: what they send, how they take the answers, how it ends for them.

use std::sync::Arc;
use std::time::Duration;

use booking::{BookingId, Clock as _, Digest, PatientId, Reason, SlotId, SystemClock, UnixMs};
use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderValue;
use rand::Rng as _;
use tokio::time::{Instant, sleep, sleep_until};

use crate::answer::{Answer, Status, Wish};
use crate::client::Client;
use crate::history::{Ask, Event, Plan, Recorder};
use crate::progress::Counters;
use crate::schedule::Visit;
use crate::tally::Tally;

/// How long one status request may be held open by the gateway, s.
const LONG_POLL_S: u32 = 20;

/// How long a patient waits after a lost answer, ms, before jitter.
const RETRY_MS: u64 = 200;

/// Those told to come back at the opening come within this many ms after it.
const OPENING_JITTER_MS: u64 = 300;

/// How often "no such booking" is asked again before it is believed.
const NOT_FOUND_MAX: u32 = 10;

/// What all patients share.
#[derive(Debug)]
pub struct Waiting {
    /// For bookings.
    pub bookings: Client,
    /// For long polls, apart so that waiting winners do not hold up those still asking.
    pub polls: Client,
    /// What is on offer.
    pub plan: Plan,
    /// A word that makes this rush's keys its own.
    pub run: String,
    /// Everything said.
    pub recorder: Recorder,
    /// How fast.
    pub tally: Tally,
    /// How far.
    pub counters: Counters,
    /// The instant of the opening.
    pub opening: Instant,
    /// When everybody gives up.
    pub deadline: Instant,
}

/// How a visit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a place.
    Booked,
    /// With a durable rejection.
    Rejected(Option<Reason>),
    /// With the place given back.
    Cancelled,
    /// With a refusal of this code.
    Refused(String),
    /// With no final answer before the deadline.
    Unanswered,
}

impl Ending {
    /// Returns the word this ending is counted under.
    pub fn outcome(&self) -> String {
        match self {
            Self::Booked => "booked".to_owned(),
            Self::Rejected(Some(reason)) => format!("rejected_{reason}"),
            Self::Rejected(None) => "rejected".to_owned(),
            Self::Cancelled => "cancelled".to_owned(),
            Self::Refused(code) => code.clone(),
            Self::Unanswered => "unanswered".to_owned(),
        }
    }
}

/// What came of asking for a slot until the answer was definite.
enum Decision {
    Accepted(BookingId),
    Refused(String),
    GaveUp,
}

/// A patient with a token and a visit.
#[derive(Debug)]
pub struct Patient {
    /// Who.
    pub id: PatientId,
    /// `Bearer …`
    pub authorization: HeaderValue,
    /// When and how.
    pub visit: Visit,
    /// What is shared.
    pub waiting: Arc<Waiting>,
}

impl Patient {
    /// Lives through the visit and returns how it ended.
    pub async fn visit(self) -> Ending {
        let arrival = self.arrival();
        sleep_until(arrival).await;
        Counters::add(&self.waiting.counters.arrived);
        let ending = self.book_somewhere(arrival).await;
        Counters::add(&self.waiting.counters.finished);
        if ending == Ending::Booked {
            Counters::add(&self.waiting.counters.booked);
        }
        ending
    }

    fn arrival(&self) -> Instant {
        let ms = self.visit.arrives_ms;
        let distance = Duration::from_millis(ms.unsigned_abs());
        if ms < 0 { self.waiting.opening - distance } else { self.waiting.opening + distance }
    }

    async fn book_somewhere(&self, arrival: Instant) -> Ending {
        let mut intended = arrival;
        let mut refusal = None;
        for (nth, slot) in self.wanted_slots().into_iter().enumerate() {
            let key = self.key(&nth.to_string());
            match self.click(&key, slot, intended, nth == 0).await {
                Decision::Accepted(id) => {
                    return self.follow_through(id, &key, slot, intended).await;
                }
                Decision::Refused(code) => {
                    let may_go_on = code == "slot_exhausted";
                    refusal = Some(code);
                    if !may_go_on {
                        break;
                    }
                }
                Decision::GaveUp => return Ending::Unanswered,
            }
            intended = Instant::now();
        }
        refusal.map_or(Ending::Unanswered, Ending::Refused)
    }

    /// Returns the slots this patient would take, in order.
    fn wanted_slots(&self) -> Vec<SlotId> {
        let offers = &self.waiting.plan.offers;
        let first = self.visit.first_slot;
        if self.visit.is_determined {
            let turned = offers.iter().cycle().skip(first).take(offers.len());
            return turned.map(|offer| offer.slot).collect();
        }
        let neighbour = self.neighbour(offers[first].slot).filter(|_| self.visit.tries_neighbour);
        std::iter::once(offers[first].slot).chain(neighbour).collect()
    }

    fn neighbour(&self, slot: SlotId) -> Option<SlotId> {
        let mut others = self.waiting.plan.offers.iter().map(|offer| offer.slot);
        others.find(|other| *other != slot && other.session() == slot.session())
    }

    fn key(&self, name: &str) -> String {
        format!("{}-{}-{name}", self.waiting.run, self.id)
    }

    /// Clicks once, or twice at once.
    async fn click(&self, key: &str, slot: SlotId, intended: Instant, first: bool) -> Decision {
        if !(first && self.visit.double_clicks) {
            return self.decide(key, slot, intended, first).await;
        }
        let (one, two) = tokio::join!(
            self.decide(key, slot, intended, true),
            self.decide(key, slot, intended, false),
        );
        match (one, two) {
            (accepted @ Decision::Accepted(_), _) | (_, accepted @ Decision::Accepted(_)) => {
                accepted
            }
            (Decision::GaveUp, _) | (_, Decision::GaveUp) => Decision::GaveUp,
            (refused, _) => refused,
        }
    }

    /// Asks until the answer is definite, with one key: a lost answer is asked for again.
    async fn decide(&self, key: &str, slot: SlotId, intended: Instant, first: bool) -> Decision {
        let mut due = intended;
        let mut is_first = first;
        while Instant::now() < self.waiting.deadline {
            sleep_until(due).await;
            let answer = self.ask(key, slot, due).await;
            if std::mem::take(&mut is_first) {
                self.waiting.counters.first_answer(self.waiting.opening.elapsed());
            }
            due = match answer {
                Answer::Booking { id, .. } => return Decision::Accepted(id),
                Answer::Refused { code, opens_at } if code == "release_not_open" => {
                    when_open(opens_at)
                }
                Answer::Refused { code, .. } => return Decision::Refused(code),
                Answer::Busy { retry_after_s, .. } => after_s(retry_after_s.unwrap_or(1)),
                Answer::Lost | Answer::NotSent => after_ms(RETRY_MS),
                // Not in the contract: the report counts it, and asking again would not help.
                Answer::NotFound => return Decision::Refused("not_found".to_owned()),
                Answer::Strange { http, code } => {
                    return Decision::Refused(format!("strange_{http}_{code}"));
                }
            };
        }
        Decision::GaveUp
    }

    async fn ask(&self, key: &str, slot: SlotId, due: Instant) -> Answer {
        let body = format!(r#"{{"slot_id":"{slot}","patient_id":"{}"}}"#, self.id);
        let mut headers = self.headers();
        if let Ok(value) = HeaderValue::from_str(key) {
            headers.push(("idempotency-key", value));
        }
        let client = &self.waiting.bookings;
        let invoked_at = SystemClock.now();
        let sent = client.send(Method::POST, "/v1/bookings", &headers, Bytes::from(body)).await;
        let answer = Answer::read(&sent);
        self.waiting.tally.count(answer.outcome(), due.elapsed());
        let ask = Ask::Book(Wish { key: Digest::of_key(key), slot });
        self.record(ask, invoked_at, answer.clone());
        answer
    }

    fn headers(&self) -> Vec<(&'static str, HeaderValue)> {
        let mut headers = vec![("authorization", self.authorization.clone())];
        if let Ok(address) = HeaderValue::from_str(&self.visit.address.to_string()) {
            headers.push(("x-forwarded-for", address));
        }
        headers
    }

    fn record(&self, ask: Ask, invoked_at: UnixMs, answer: Answer) {
        let answered_at = SystemClock.now();
        let patient = self.id;
        // There is one gateway for this crowd, and its restarts are not told.
        let gateway = None;
        let event = Event { patient, ask, invoked_at, answered_at, answer, gateway };
        self.waiting.recorder.record(event);
    }

    /// Does what impatient people do after the answer, then waits for the end.
    async fn follow_through(
        &self,
        id: BookingId,
        key: &str,
        slot: SlotId,
        intended: Instant,
    ) -> Ending {
        let now = Instant::now();
        let mut others = Vec::new();
        if self.visit.repeats {
            others.push(self.decide(key, slot, now, false).await);
        }
        if self.visit.renews_key {
            others.push(self.decide(&self.key("again"), slot, now, false).await);
        }
        if self.visit.tries_neighbour
            && let Some(other) = self.neighbour(slot)
        {
            others.push(self.decide(&self.key("neighbour"), other, now, false).await);
        }
        let mut ending = self.follow(id, intended).await;
        for other in others {
            if let Decision::Accepted(other) = other
                && other != id
            {
                let second = self.follow(other, now).await;
                if ending != Ending::Booked {
                    ending = second;
                }
            }
        }
        ending
    }

    /// Asks what became of a booking until that is final.
    async fn follow(&self, id: BookingId, intended: Instant) -> Ending {
        let path = format!("/v1/bookings/{id}?wait={LONG_POLL_S}");
        let headers = self.headers();
        let mut not_found = 0;
        while Instant::now() < self.waiting.deadline {
            let invoked_at = SystemClock.now();
            let sent = self.waiting.polls.send(Method::GET, &path, &headers, Bytes::new()).await;
            let answer = Answer::read(&sent);
            self.record(Ask::Status { id }, invoked_at, answer.clone());
            match answer {
                Answer::Booking { status, reason, .. } => {
                    if let Some(ending) = final_ending(status, reason) {
                        self.waiting.tally.count(&ending.outcome(), intended.elapsed());
                        return ending;
                    }
                    sleep(Duration::from_millis(20)).await;
                }
                Answer::Busy { retry_after_s, .. } => {
                    sleep_until(after_s(retry_after_s.unwrap_or(1))).await;
                }
                Answer::NotFound if not_found >= NOT_FOUND_MAX => return Ending::Unanswered,
                Answer::NotFound => {
                    not_found += 1;
                    sleep_until(after_ms(RETRY_MS)).await;
                }
                Answer::Lost | Answer::NotSent => sleep_until(after_ms(RETRY_MS)).await,
                Answer::Refused { code, .. } => return Ending::Refused(code),
                Answer::Strange { http, code } => {
                    return Ending::Refused(format!("strange_{http}_{code}"));
                }
            }
        }
        Ending::Unanswered
    }
}

fn final_ending(status: Status, reason: Option<Reason>) -> Option<Ending> {
    match status {
        Status::Queued | Status::Pending => None,
        Status::Booked => Some(Ending::Booked),
        Status::Rejected => Some(Ending::Rejected(reason)),
        Status::Cancelled => Some(Ending::Cancelled),
    }
}

fn after_s(seconds: u64) -> Instant {
    after_ms(seconds.saturating_mul(1_000))
}

fn when_open(opens_at: Option<UnixMs>) -> Instant {
    let waits_ms = opens_at.map_or(RETRY_MS, |at| at.since(SystemClock.now()));
    Instant::now() + Duration::from_millis(waits_ms) + jitter(OPENING_JITTER_MS)
}

/// Returns an instant that far away, and up to half as far again: retries must not march in step.
fn after_ms(ms: u64) -> Instant {
    let ms = ms.min(60_000);
    Instant::now() + Duration::from_millis(ms) + jitter(ms / 2)
}

fn jitter(ms_max: u64) -> Duration {
    Duration::from_millis(rand::rng().random_range(0..=ms_max))
}
