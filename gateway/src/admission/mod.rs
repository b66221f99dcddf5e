//! Admission: from a wish to a place in the queue, or a refusal that costs next to nothing.
//!
//! Read [`admit`] first; it reads aloud. Winners are few and go the whole way, with their id minted
//! before any quota is touched; losers are many and are answered from memory where memory is sure.

pub mod accepted;
mod doubt;
pub mod facts;
pub mod held;
pub mod keys;
pub mod looks;
pub mod memory;
pub mod offer;
pub mod place;
pub mod promised;
pub mod refusals;
mod repeat;
mod replay;
pub mod room;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use booking::{AccountId, Booking, BookingId, Digest, Epoch, Partition, PatientId, SlotId, UnixMs};
use broker::Link;
use futures::FutureExt as _;
use ledger::booking_row::BookingRow;
use tokio::time::Instant;

use self::held::Standing;
use self::memory::{Accepted, Winner};
use self::refusals::Refusal;
use crate::app::App;
use crate::unbroken::Unbroken;

/// What a patient asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Who asks.
    pub account: AccountId,
    /// For which slot.
    pub slot: SlotId,
    /// For whom.
    pub patient: PatientId,
    /// Digest of the idempotency key.
    pub key: Digest,
    /// When: whatever was told before binds the answer.
    pub asked_at: Instant,
}

impl Wish {
    /// Notes a wish under the digest of an idempotency key.
    pub fn new(account: AccountId, slot: SlotId, patient: PatientId, key: Digest) -> Self {
        Self { account, slot, patient, key, asked_at: Instant::now() }
    }

    /// Returns the digest of slot and patient. Most wishes are refused, and nobody asks for it.
    pub fn request(&self) -> Digest {
        Digest::of_request(self.slot, self.patient)
    }

    /// Judges the wish against the first booking under its key.
    fn repeats(&self, first: &Booking) -> Standing {
        if first.request == self.request() {
            Standing::Replay(first.id)
        } else {
            Standing::KeyReused
        }
    }

    /// Makes it a booking.
    pub fn booking(&self, id: BookingId, epoch: Epoch, accepted_at: UnixMs) -> Booking {
        let Self { account, slot, patient, key, asked_at: _ } = *self;
        let request = self.request();
        Booking { id, epoch, slot, patient, account, key, request, accepted_at }
    }
}

/// What came of a wish.
#[derive(Clone, Debug)]
pub enum Admitted {
    /// A place is set aside: "queued" if certain, else "pending".
    Accepted(Arc<Accepted>),
    /// The same request came before and has its final answer.
    Final(Arc<BookingRow>),
    /// The slot sells nothing now.
    Refused(Refusal),
    /// The key came before with another wish.
    KeyReused,
    /// The patient has a live booking in this session.
    AlreadyBooked,
    /// The patient reached a limit of the hospital.
    LimitReached(&'static str),
    /// More work than this gateway takes.
    Overloaded,
    /// Quota is being put in order.
    Recovering,
    /// Redis does not answer.
    InventoryDown,
    /// RabbitMQ takes nothing.
    BrokerDown,
    /// PostgreSQL does not answer.
    LedgerDown,
}

/// Decides over a wish whose patient is the account's own.
pub async fn admit(app: &App, wish: &Wish) -> Admitted {
    let partition = app.partitions.of_session(wish.slot.session());
    let first = app.memory.by_key(wish);
    let standing = match recall(app, wish, first.as_deref()) {
        Standing::AlreadyBooked | Standing::LimitReached(_) => {
            Box::pin(doubt::resolve(app, wish, partition)).await
        }
        sure @ (Standing::Free | Standing::Replay(_) | Standing::KeyReused) => Ok(sure),
    };
    let outcome = match standing {
        Ok(standing) => act(app, wish, partition, standing).await,
        Err(outcome) => outcome,
    };
    if let Some(first) = first {
        repeat::check(&first, wish, &outcome);
    }
    app.memory.outcomes.note(outcome.word());
    outcome
}

/// Does what the standing of the patient allows. The ways of the few are in boxes: they are large, and
/// whoever is refused from memory would carry room for them.
async fn act(app: &App, wish: &Wish, partition: Partition, standing: Standing) -> Admitted {
    match standing {
        Standing::Replay(id) => {
            finish(app, false, Box::pin(replay::answer(app.clone(), id, *wish))).await
        }
        Standing::KeyReused => Admitted::KeyReused,
        Standing::AlreadyBooked => Admitted::AlreadyBooked,
        Standing::LimitReached(limit) => Admitted::LimitReached(limit),
        Standing::Free => match known_refusal(app, wish, partition).await {
            Some(refusal) => Admitted::Refused(refusal),
            None => match closed_gate(app, partition) {
                Some(outcome) => outcome,
                None => finish(app, true, place::take(app.clone(), *wish, partition)).await,
            },
        },
    }
}

/// Asks this gateway's memory whether the wish, or the patient, came before.
///
/// PostgreSQL is asked first for what the key stands for: two gateways may have accepted different
/// wishes under one key at the same instant, and only one of them was not superseded.
fn recall(app: &App, wish: &Wish, first: Option<&Accepted>) -> Standing {
    let by_key = app.memory.held.by_key(wish);
    let by_key = by_key.or_else(|| first.map(|first| wish.repeats(&first.booking)));
    by_key.unwrap_or_else(|| app.memory.held.judge(wish, || app.facts.peek(wish.slot.session())))
}

async fn known_refusal(app: &App, wish: &Wish, partition: Partition) -> Option<Refusal> {
    let find = || app.memory.refusals.find(wish.slot, app.clock.now());
    let mut known = find()?;
    if app.epochs.is_recovering(partition) {
        return None;
    }
    let mut winner = app.memory.judge(wish.patient, partition, &known);
    if winner == Winner::NotSeen && closed_gate(app, partition).is_none() {
        Box::pin(app.memory.looks.wait(partition, known.since)).await;
        known = find()?;
        winner = app.memory.judge(wish.patient, partition, &known);
    }
    let is_sure = winner == Winner::No
        && !app.epochs.is_recovering(partition)
        // It may have won, and its answer not have been read.
        && !app.memory.keys_in_flight.is_on_its_way(wish);
    is_sure.then_some(known.refusal)
}

/// Tells what is in the way before any quota is touched.
fn closed_gate(app: &App, partition: Partition) -> Option<Admitted> {
    if !app.epochs.is_ledger_up() || !app.memory.held.is_read() {
        return Some(Admitted::LedgerDown);
    }
    match app.publisher.link() {
        Link::Up => {}
        Link::Down | Link::Blocked => return Some(Admitted::BrokerDown),
    }
    if app.publisher.waiting(partition) >= app.settings.calls.publish_waiting_max {
        return Some(Admitted::Overloaded);
    }
    (!app.inventory.is_up()).then_some(Admitted::InventoryDown)
}

/// Does what must not be cancelled when the client goes away.
/// The delay of what is new tells whether bookings stand in line.
///
/// What it returns is small: the work is boxed here, once, and nothing around it keeps room for it.
fn finish<W>(app: &App, is_new: bool, work: W) -> impl Future<Output = Admitted> + Send + use<W>
where
    W: Future<Output = Admitted> + Send + 'static,
{
    let under_way = app.room.enter().map(|place| {
        let id = crate::request_id::current().unwrap_or_default();
        let work = crate::request_id::scope(id, work).map(move |outcome| {
            if is_new && let Admitted::Accepted(accepted) = &outcome {
                place.carried(accepted.is_certain());
            }
            outcome
        });
        Unbroken::new(&app.tasks, AssertUnwindSafe(work).catch_unwind())
    });
    async {
        match under_way {
            Some(work) => work.await.unwrap_or(Admitted::Overloaded),
            None => Admitted::Overloaded,
        }
    }
}

impl Admitted {
    /// Returns the word of the metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Accepted(accepted) if accepted.is_certain() => "queued",
            Self::Accepted(_) => "pending",
            Self::Final(_) => "final",
            Self::Refused(Refusal::SoldOut) => "slot_exhausted",
            Self::Refused(Refusal::NotOpen { .. }) => "release_not_open",
            Self::Refused(Refusal::Paused) => "release_paused",
            Self::Refused(Refusal::Closed) => "release_closed",
            Self::Refused(Refusal::Begun) => "slot_begun",
            Self::Refused(Refusal::NotPreheated) => "not_preheated",
            Self::KeyReused => "idempotency_key_reused",
            Self::AlreadyBooked => "already_booked",
            Self::LimitReached(_) => "limit_reached",
            Self::Overloaded => "overloaded",
            Self::Recovering => "quota_recovering",
            Self::InventoryDown => "inventory_unavailable",
            Self::BrokerDown => "broker_unavailable",
            Self::LedgerDown => "ledger_unavailable",
        }
    }
}
