//! The way of a winner: steps G1 to G4 of the protocol. Gone to its end, also when the client leaves.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use booking::{Booking, BookingId, Epoch, Partition, PatientId, UnixMs};
use broker::Published;
use inventory::{Error, Hold};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::held::Standing;
use super::memory::{Accepted, Ticket};
use super::refusals::Refusal;
use super::{Admitted, Wish, replay};
use crate::app::App;
use crate::request_id::RequestId;

/// How often a hold is tried again because Redis is in another epoch than this gateway thought.
const EPOCH_RETRIES_MAX: u32 = 2;
/// How long a wish waits to learn when its slot begins, where that is not known yet.
const FACTS_WAIT: Duration = Duration::from_millis(200);
/// Later than any release ends: a hold "at" this time answers who came before and sells nothing.
const AFTER_ALL_RELEASES: UnixMs = UnixMs(1 << 52);

/// Takes a place for a wish, or tells why there is none. The ways of the few are in boxes.
pub async fn take(app: App, wish: Wish, partition: Partition) -> Admitted {
    let reserved = app.memory.keys_in_flight.reserve(&wish);
    // Looked at again behind the reservation: whoever had the key until then is remembered now.
    let first = app.memory.by_key(&wish).map(|first| wish.repeats(&first.booking));
    let (Some(_reserved), None | Some(Standing::Replay(_))) = (reserved, first) else {
        return Admitted::KeyReused;
    };
    // Not known in time, it counts as not begun: what is asked of PostgreSQL must not hold up
    // what can be sold without it.
    let facts = app.facts.find(wish.slot.session(), FACTS_WAIT).await;
    for _ in 0..=EPOCH_RETRIES_MAX {
        // A new id for every try: one id is offered to one epoch only (G4).
        let Some(id) = app.minter.mint(partition).await else { return Admitted::Overloaded };
        let now = app.clock.now();
        let booking = wish.booking(id, app.epochs.current(partition), now);
        let has_begun = facts.as_ref().is_some_and(|facts| facts.has_begun(wish.slot, now));
        match (Asked { app: app.clone(), booking, has_begun, at: Instant::now() }).go().await {
            Came::Through(accepted, published) => return certain(&app, accepted, published),
            Came::Answered(answer) => return answer,
            Came::OtherEpoch(current) => app.epochs.adopt(partition, current),
            Came::Replayed { id, epoch } => {
                return Box::pin(replay::held(app, id, epoch, wish)).await;
            }
            Came::NotPreheated(asked) => return Box::pin(explain(asked)).await,
        }
    }
    Admitted::Recovering
}

/// How far a booking came by itself.
enum Came {
    /// It has a place and was sent to the queue, and this is known of it.
    Through(Arc<Accepted>, Published),
    /// It has none, as far as known, and this is the answer.
    Answered(Admitted),
    /// Redis is in this epoch.
    OtherEpoch(Epoch),
    /// The wish came before, as this booking of this epoch.
    Replayed { id: BookingId, epoch: Epoch },
    /// Redis was given nothing of the slot.
    NotPreheated(Asked),
}

/// A booking that was handed to the publisher.
struct Sent {
    accepted: Arc<Accepted>,
    at: Instant,
}

/// A booking that asks for a place.
struct Asked {
    app: App,
    booking: Booking,
    has_begun: bool,
    at: Instant,
}

impl Asked {
    /// Asks for a place (step G1) and has the booking published (steps G2 and G3) by whoever reads that it has
    /// one: a wake of the task that waits would cost as much as what is left to do.
    async fn go(self) -> Came {
        let (tell, told) = oneshot::channel();
        let sent = Arc::<OnceLock<Sent>>::default();
        let (app, booking) = (self.app.clone(), self.booking.clone());
        let asked_at = if self.has_begun { AFTER_ALL_RELEASES } else { booking.accepted_at };
        let then = {
            let sent = Arc::clone(&sent);
            move |held| self.judged(held, &sent, tell)
        };
        app.inventory.hold_then(booking.id.partition(), &booking, asked_at, then);
        let came = wait(told, &sent, app.publisher.answers_within()).await;
        let came =
            came.unwrap_or_else(|| Came::Answered(failed(&app, booking.patient, &Error::Unknown)));
        if let (Came::Through(..), Some(sent)) = (&came, sent.get()) {
            app.waits.note_publish(sent.at.elapsed());
            failpoint::point!("gateway.answering");
        }
        came
    }

    /// Goes on with what Redis said, in the order in which it did: a refusal that is noted late would undo
    /// what was sold since.
    fn judged(
        self,
        held: Result<Hold, Error>,
        sent: &Arc<OnceLock<Sent>>,
        tell: oneshot::Sender<Came>,
    ) {
        let Self { app, booking, has_begun, at } = &self;
        app.waits.note_hold(at.elapsed());
        let came = match held {
            Ok(Hold::Held { left, ticket, settled }) => {
                let ticket = Ticket { number: ticket, settled };
                let accepted = Arc::new(Accepted::new(booking.clone(), Some(ticket)));
                let accepted = app.memory.remember(accepted);
                note_sale(app, &accepted.booking, left, *at);
                let (app, sent) = (self.app, Arc::clone(sent));
                failpoint::before!("gateway.held", send(&app, accepted, &sent, tell));
                return;
            }
            Ok(Hold::OtherEpoch { current }) => Came::OtherEpoch(current),
            Ok(Hold::Replayed { id, epoch, live: _ }) => Came::Replayed { id, epoch },
            Ok(Hold::KeyReused) => {
                app.memory.note_refused(booking.id);
                Came::Answered(Admitted::KeyReused)
            }
            Ok(Hold::AlreadyBooked { id: _ }) => {
                app.memory.note_refused(booking.id);
                Came::Answered(Admitted::AlreadyBooked)
            }
            Ok(
                Hold::SoldOut
                | Hold::NotOpen { .. }
                | Hold::Paused
                | Hold::Closed
                | Hold::NotPreheated,
            ) if *has_begun => self.refused(Refusal::Begun),
            Ok(Hold::SoldOut) => self.refused(Refusal::SoldOut),
            Ok(Hold::NotOpen { opens_at }) => self.refused(Refusal::NotOpen { opens_at }),
            Ok(Hold::Paused) => self.refused(Refusal::Paused),
            Ok(Hold::Closed) => self.refused(Refusal::Closed),
            Ok(Hold::NotPreheated) => Came::NotPreheated(self),
            Ok(Hold::Shut | Hold::Fenced) => Came::Answered(Admitted::Recovering),
            Err(error) => Came::Answered(failed(app, booking.patient, &error)),
        };
        let _ = tell.send(came);
    }

    fn refused(&self, refusal: Refusal) -> Came {
        Came::Answered(refuse(&self.app, &self.booking, refusal, self.at))
    }
}

/// Redis did not answer, or nothing that is of use.
fn failed(app: &App, patient: PatientId, error: &Error) -> Admitted {
    match error {
        // It may have run. The outbox then has the booking, and the relay carries it; the client's next
        // try finds it by its key.
        Error::Unknown => {
            app.memory.note_perhaps(patient);
            Admitted::InventoryDown
        }
        Error::Overloaded => Admitted::Overloaded,
        Error::Unavailable => Admitted::InventoryDown,
        Error::Refused(fault) => {
            tracing::error!(fault, "Redis refused a hold");
            Admitted::InventoryDown
        }
    }
}

/// Hands an accepted booking to the publisher.
fn send(app: &App, accepted: Arc<Accepted>, sent: &OnceLock<Sent>, tell: oneshot::Sender<Came>) {
    let booking = accepted.booking.clone();
    let _ = sent.set(Sent { accepted: Arc::clone(&accepted), at: Instant::now() });
    app.publisher.publish_then(booking.id.partition(), booking, move |published| {
        let _ = tell.send(Came::Through(accepted, published));
    });
}

/// Waits until it is known what came of a booking, no longer than `within` after it was sent. How long Redis
/// may take is bounded by itself. `None` if nobody will tell, and it was not sent.
async fn wait(
    mut told: oneshot::Receiver<Came>,
    sent: &OnceLock<Sent>,
    within: Duration,
) -> Option<Came> {
    loop {
        let left = sent.get().map_or(within, |sent| within.saturating_sub(sent.at.elapsed()));
        let told = match timeout(left, &mut told).await {
            Ok(Ok(came)) => return Some(came),
            Ok(Err(_)) => true,
            Err(_) => false,
        };
        match sent.get() {
            Some(Sent { accepted, at }) if told || at.elapsed() >= within => {
                return Some(Came::Through(Arc::clone(accepted), Published::Uncertain));
            }
            None if told => return None,
            Some(_) | None => {}
        }
    }
}

/// Publishes an accepted booking once more (steps G2 and G3).
pub async fn publish(app: &App, accepted: Arc<Accepted>) -> Admitted {
    let (booking, started) = (accepted.booking.clone(), Instant::now());
    let published = app.publisher.publish(booking.id.partition(), booking).await;
    app.waits.note_publish(started.elapsed());
    certain(app, accepted, published)
}

/// Notes what is known of a published booking, and answers who waits.
fn certain(app: &App, accepted: Arc<Accepted>, published: Published) -> Admitted {
    match published {
        Published::Certain => accepted.set_certain(),
        // In the queue or not, the outbox has it. Quota is not given back on a guess.
        Published::Uncertain => {}
    }
    if accepted.is_certain() {
        app.memory.promised.note(&accepted);
    }
    let request_id = crate::request_id::current();
    let request_id = request_id.as_ref().map(RequestId::as_str);
    let id = accepted.booking.id;
    tracing::info!(request_id, booking_id = %id, is_certain = accepted.is_certain(), "accepted");
    Admitted::Accepted(accepted)
}

/// Redis was given nothing of the slot: PostgreSQL knows why.
async fn explain(Asked { app, booking, at, .. }: Asked) -> Admitted {
    match app.offers.refusal(booking.slot, booking.accepted_at).await {
        Ok(Some(refusal)) => refuse(&app, &booking, refusal, at),
        Ok(None) => Admitted::Recovering,
        Err(error) => {
            tracing::debug!(%error, "a slot could not be looked up");
            Admitted::LedgerDown
        }
    }
}

/// The last place tells everybody else at once.
fn note_sale(app: &App, booking: &Booking, left: u32, asked_at: Instant) {
    if left == 0 && !app.epochs.is_recovering(booking.id.partition()) {
        app.memory.refusals.note(booking.slot, Refusal::SoldOut, asked_at);
    } else {
        app.memory.refusals.forget(booking.slot);
    }
}

fn refuse(app: &App, booking: &Booking, refusal: Refusal, asked_at: Instant) -> Admitted {
    if app.epochs.is_recovering(booking.id.partition()) {
        // Quota of an older epoch may come back, and slots may not be loaded yet.
        return match refusal {
            Refusal::SoldOut | Refusal::NotPreheated => Admitted::Recovering,
            Refusal::NotOpen { .. } | Refusal::Paused | Refusal::Closed | Refusal::Begun => {
                Admitted::Refused(refusal)
            }
        };
    }
    app.memory.note_refused(booking.id);
    app.memory.refusals.note(booking.slot, refusal, asked_at);
    Admitted::Refused(refusal)
}

#[cfg(test)]
mod tests {
    use booking::{AccountId, Digest, Epoch, PatientId, SlotId};

    use super::*;

    const LONG: Duration = Duration::from_hours(1);

    fn sent() -> Sent {
        let wish = Wish::new(
            AccountId::from(1),
            SlotId::from(256),
            PatientId::from(1),
            Digest::of_key("k"),
        );
        let accepted = Accepted::new(wish.booking(9.into(), Epoch(1), UnixMs(0)), None);
        Sent { accepted: Arc::new(accepted), at: Instant::now() }
    }

    fn is_uncertain(came: Option<Came>) -> bool {
        let is_mine = |accepted: &Accepted| accepted.booking.id == 9.into();
        came.is_some_and(|came| matches!(came, Came::Through(accepted, Published::Uncertain) if is_mine(&accepted)))
    }

    #[tokio::test]
    async fn what_nobody_tells_of_is_unknown_before_it_was_sent_and_uncertain_after() {
        let on_its_way = OnceLock::new();
        let (tell, told) = oneshot::channel();
        drop(tell);
        assert!(wait(told, &on_its_way, LONG).await.is_none());
        let (tell, told) = oneshot::channel();
        assert!(on_its_way.set(sent()).is_ok());
        drop(tell);
        assert!(is_uncertain(wait(told, &on_its_way, LONG).await));
    }

    #[tokio::test]
    async fn what_was_sent_is_uncertain_in_time_and_what_was_not_is_waited_for() {
        let within = Duration::from_millis(20);
        let on_its_way = OnceLock::new();
        let (tell, told) = oneshot::channel();
        let mut waiting = std::pin::pin!(wait(told, &on_its_way, within));
        assert!(timeout(5 * within, &mut waiting).await.is_err(), "Redis may take longer");
        let sent = sent();
        let at = sent.at;
        assert!(on_its_way.set(sent).is_ok());
        assert!(is_uncertain(waiting.await));
        assert!(at.elapsed() >= within);
        drop(tell);
    }
}
