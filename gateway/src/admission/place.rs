//! The way of a winner: steps G1 to G4 of the protocol. Gone to its end, also when the client leaves.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use booking::{Booking, Partition, UnixMs};
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
        let started = Instant::now();
        let has_begun = facts.as_ref().is_some_and(|facts| facts.has_begun(wish.slot, now));
        let asked_at = if has_begun { AFTER_ALL_RELEASES } else { now };
        let held = match go(&app, &booking, asked_at).await {
            Came::Through(accepted, published) => {
                failpoint::point!("gateway.answering");
                return certain(&app, accepted, published);
            }
            Came::Back(held) => held,
        };
        match held {
            Ok(Hold::OtherEpoch { current }) => app.epochs.adopt(partition, current),
            Ok(Hold::Replayed { id, epoch, live: _ }) => {
                return Box::pin(replay::held(app, id, epoch, wish)).await;
            }
            Ok(Hold::KeyReused) => {
                app.memory.note_refused(id);
                return Admitted::KeyReused;
            }
            Ok(Hold::AlreadyBooked { id: _ }) => {
                app.memory.note_refused(id);
                return Admitted::AlreadyBooked;
            }
            Ok(
                Hold::SoldOut
                | Hold::NotOpen { .. }
                | Hold::Paused
                | Hold::Closed
                | Hold::NotPreheated,
            ) if has_begun => return refuse(&app, &booking, Refusal::Begun, started),
            Ok(Hold::SoldOut) => return refuse(&app, &booking, Refusal::SoldOut, started),
            Ok(Hold::NotOpen { opens_at }) => {
                return refuse(&app, &booking, Refusal::NotOpen { opens_at }, started);
            }
            Ok(Hold::Paused) => return refuse(&app, &booking, Refusal::Paused, started),
            Ok(Hold::Closed) => return refuse(&app, &booking, Refusal::Closed, started),
            Ok(Hold::NotPreheated) => {
                return Box::pin(explain(&app, &booking, now, started)).await;
            }
            Ok(Hold::Shut | Hold::Fenced) => return Admitted::Recovering,
            // When unknown, it may have run. The outbox then has the booking, and the relay
            // carries it; the client's next try finds it by its key. A place itself never comes back.
            Ok(Hold::Held { .. }) | Err(Error::Unknown) => {
                app.memory.note_perhaps(wish.patient);
                return Admitted::InventoryDown;
            }
            Err(Error::Overloaded) => return Admitted::Overloaded,
            Err(Error::Unavailable) => return Admitted::InventoryDown,
            Err(Error::Refused(fault)) => {
                tracing::error!(fault, "Redis refused a hold");
                return Admitted::InventoryDown;
            }
        }
    }
    Admitted::Recovering
}

/// How far a booking came by itself.
enum Came {
    /// It has a place and was sent to the queue, and this is known of it.
    Through(Arc<Accepted>, Published),
    /// It has none, as far as known.
    Back(Result<Hold, Error>),
}

/// A booking that was handed to the publisher.
struct Sent {
    accepted: Arc<Accepted>,
    at: Instant,
}

/// Asks for a place (step G1) and has the booking published (steps G2 and G3) by whoever reads that it has
/// one: a wake of the task that waits would cost as much as what is left to do.
async fn go(app: &App, booking: &Booking, asked_at: UnixMs) -> Came {
    let started = Instant::now();
    let (tell, told) = oneshot::channel();
    let sent = Arc::<OnceLock<Sent>>::default();
    let then = {
        let (app, booking, sent) = (app.clone(), booking.clone(), Arc::clone(&sent));
        move |held| {
            app.waits.note_hold(started.elapsed());
            let (left, ticket) = match held {
                Ok(Hold::Held { left, ticket, settled }) => {
                    (left, Ticket { number: ticket, settled })
                }
                other => return drop(tell.send(Came::Back(other))),
            };
            let accepted = app.memory.remember(Arc::new(Accepted::new(booking, Some(ticket))));
            note_sale(&app, &accepted.booking, left, started);
            failpoint::before!("gateway.held", send(&app, accepted, &sent, tell));
        }
    };
    app.inventory.hold_then(booking.id.partition(), booking, asked_at, then);
    let came = wait(told, &sent, app.publisher.answers_within()).await;
    if let (Came::Through(..), Some(sent)) = (&came, sent.get()) {
        app.waits.note_publish(sent.at.elapsed());
    }
    came
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
/// may take is bounded by itself.
async fn wait(mut told: oneshot::Receiver<Came>, sent: &OnceLock<Sent>, within: Duration) -> Came {
    loop {
        let left = sent.get().map_or(within, |sent| within.saturating_sub(sent.at.elapsed()));
        let told = match timeout(left, &mut told).await {
            Ok(Ok(came)) => return came,
            Ok(Err(_)) => true,
            Err(_) => false,
        };
        match sent.get() {
            Some(Sent { accepted, at }) if told || at.elapsed() >= within => {
                return Came::Through(Arc::clone(accepted), Published::Uncertain);
            }
            None if told => return Came::Back(Err(Error::Unknown)),
            Some(_) | None => {}
        }
    }
}

/// Publishes an accepted booking once more (steps G2 and G3).
pub async fn publish(app: &App, accepted: Arc<Accepted>) -> Admitted {
    let (booking, started) = (accepted.booking.clone(), Instant::now());
    let published = app.publisher.publish(booking.id.partition(), booking).await;
    app.waits.note_publish(started.elapsed());
    failpoint::point!("gateway.answering");
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
async fn explain(app: &App, booking: &Booking, now: UnixMs, asked_at: Instant) -> Admitted {
    match app.offers.refusal(booking.slot, now).await {
        Ok(Some(refusal)) => refuse(app, booking, refusal, asked_at),
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
