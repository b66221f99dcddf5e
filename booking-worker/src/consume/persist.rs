//! Making bookings durable, and setting aside those that can't be.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use booking::{Booking, BookingId, Clock, Partition, Reason, State};
use inventory::Inventory;
use ledger::parked::Parked;
use ledger::persist::{Outcome, Persisted};
use ledger::{Error, Ledger};
use tokio::sync::Semaphore;

use super::reading::Unreadable;
use crate::{Fronts, Servers};

/// How often a booking that is refused by itself is tried before it is parked.
const TRIES: u32 = 3;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Why something is parked, but for the names of constraints.
const PARKED_FOR: [&str; 4] = ["undecodable", "id_conflict", "unknown_allotment", "unexpected"];

/// Shows the reasons known beforehand from the start, so that the first parked message is an increase.
pub(super) fn show_reasons() {
    for reason in PARKED_FOR {
        metrics::counter!("slotrush_parked_total", "reason" => reason).increment(0);
    }
}

/// What became of a booking or a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has its row, or is parked.
    Final,
    /// Nothing is known to have happened: ask again.
    Later,
}

/// Makes bookings durable. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Persister {
    ledger: Ledger,
    inventory: Inventory,
    fronts: Arc<Fronts>,
    clock: Arc<dyn Clock>,
    settling: Arc<Semaphore>,
    /// Looked up once: what most bookings add to.
    booked: metrics::Counter,
    waited: metrics::Histogram,
}

/// What is to be done with a booking after the ledger was asked.
enum Next {
    Done(Answer),
    /// The ledger would not take it together with others, or said nothing of it.
    Alone,
}

impl Persister {
    pub(super) fn new(servers: &Servers, settling: Arc<Semaphore>) -> Self {
        let Servers { ledger, inventory, fronts, clock, .. } = servers.clone();
        let booked = persisted_counter(State::Booked, None);
        let waited = metrics::histogram!("slotrush_accepted_to_persisted_seconds");
        Self { ledger, inventory, fronts, clock, settling, booked, waited }
    }

    pub(super) fn ledger(&self) -> Ledger {
        self.ledger.clone()
    }

    /// Persists distinct bookings; one answer for each, in order.
    pub(super) async fn persist(&self, bookings: &[Booking]) -> Vec<Answer> {
        let mut answers = vec![Answer::Later; bookings.len()];
        let mut settled = Vec::new();
        for (partition, places) in rounds(bookings) {
            let batch: Vec<Booking> = places.iter().map(|at| bookings[*at].clone()).collect();
            let next = self.persist_round(partition, &batch, &mut settled).await;
            for ((at, booking), next) in places.iter().zip(&batch).zip(next) {
                answers[*at] = match next {
                    Next::Done(answer) => answer,
                    Next::Alone => self.persist_alone(partition, booking, &mut settled).await,
                };
            }
        }
        self.settle(settled);
        answers
    }

    /// Parks messages that can't be read; one answer for each, in order.
    pub(super) async fn park_unreadable(&self, messages: &[Unreadable]) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(messages.len());
        for Unreadable { partition, detail, parked } in messages {
            answers.push(self.park(*partition, "undecodable", detail, parked).await);
        }
        answers
    }

    async fn persist_round(
        &self,
        partition: Partition,
        batch: &[Booking],
        settled: &mut Vec<(Booking, bool)>,
    ) -> Vec<Next> {
        let started = Instant::now();
        failpoint::point!("worker.persisting");
        let persisted = self.ledger.persist(partition, batch).await;
        failpoint::point!("worker.persisted", if persisted.is_ok());
        metrics::histogram!("slotrush_persist_seconds").record(started.elapsed());
        match persisted {
            Ok(rows) => {
                // A batch is at most a few hundred.
                let size = u32::try_from(batch.len()).unwrap_or(u32::MAX);
                metrics::histogram!("slotrush_persist_batch_size").record(size);
                self.fronts.note(partition, batch.iter().map(|booking| booking.id));
                let outcomes = by_id(&rows);
                let mut next = Vec::with_capacity(batch.len());
                for booking in batch {
                    next.push(match outcomes.get(&booking.id) {
                        Some(outcome) => {
                            Next::Done(self.conclude(partition, booking, *outcome, settled).await)
                        }
                        None => Next::Alone,
                    });
                }
                next
            }
            Err(error) => {
                let bookings = batch.len();
                if is_transient(&error) {
                    // Asked again five times a second; that PostgreSQL is away is said once, elsewhere.
                    tracing::debug!(%error, cause = ?error, %partition, bookings, "a batch is not persisted yet");
                } else {
                    tracing::warn!(%error, cause = ?error, %partition, bookings, "a batch is not persisted");
                }
                let next =
                    |_| if is_transient(&error) { Next::Done(Answer::Later) } else { Next::Alone };
                batch.iter().map(next).collect()
            }
        }
    }

    /// Persists one booking by itself, so that one bad one does not hold up its neighbours.
    async fn persist_alone(
        &self,
        partition: Partition,
        booking: &Booking,
        settled: &mut Vec<(Booking, bool)>,
    ) -> Answer {
        let mut refusal = ("unanswered".to_owned(), String::new());
        for attempt in 0..TRIES {
            if attempt > 0 {
                tokio::time::sleep(TRY_AGAIN_AFTER).await;
            }
            match self.ledger.persist(partition, std::slice::from_ref(booking)).await {
                Ok(rows) => {
                    if let Some(outcome) = by_id(&rows).get(&booking.id) {
                        return self.conclude(partition, booking, *outcome, settled).await;
                    }
                }
                Err(Error::Unavailable(_) | Error::Contended) => return Answer::Later,
                Err(Error::Refused { constraint }) => refusal = (constraint, String::new()),
                // The text of a fault of the schema may quote values of the row: it is not stored.
                Err(Error::Unexpected(_)) => {
                    refusal = ("unexpected".into(), "see the log of the worker".into());
                }
            }
        }
        let (reason, detail) = refusal;
        tracing::error!(booking_id = %booking.id, %partition, reason, "a booking is refused for good");
        self.park(partition, &reason, &detail, &[Parked::Booking(booking.clone())]).await
    }

    async fn conclude(
        &self,
        partition: Partition,
        booking: &Booking,
        outcome: Outcome,
        settled: &mut Vec<(Booking, bool)>,
    ) -> Answer {
        let reason = match outcome {
            Outcome::Row { state, reason, .. } => {
                match (state, reason) {
                    (State::Booked, None) => self.booked.increment(1),
                    (state, reason) => persisted_counter(state, reason).increment(1),
                }
                let waited = Duration::from_millis(self.clock.now().since(booking.accepted_at));
                self.waited.record(waited);
                settled.push((booking.clone(), state.is_live()));
                return Answer::Final;
            }
            Outcome::IdConflict => "id_conflict",
            Outcome::UnknownAllotment => "unknown_allotment",
        };
        tracing::error!(booking_id = %booking.id, %partition, reason, "a booking is set aside");
        self.park(partition, reason, "", &[Parked::Booking(booking.clone())]).await
    }

    async fn park(
        &self,
        partition: Partition,
        reason: &str,
        detail: &str,
        what: &[Parked],
    ) -> Answer {
        match self.ledger.park(partition, reason, detail, what).await {
            Ok(()) => {
                let count = u64::try_from(what.len()).unwrap_or(u64::MAX);
                metrics::counter!("slotrush_parked_total", "reason" => reason.to_owned())
                    .increment(count);
                Answer::Final
            }
            Err(error) => {
                tracing::warn!(%error, cause = ?error, %partition, reason, "not parked yet");
                Answer::Later
            }
        }
    }

    /// Tells Redis, behind the acknowledgement's back: whatever is missed here, the relay and the
    /// reconciler find.
    fn settle(&self, settled: Vec<(Booking, bool)>) {
        if settled.is_empty() {
            return;
        }
        let Ok(place) = Arc::clone(&self.settling).try_acquire_owned() else {
            metrics::counter!("slotrush_settle_skipped_total").increment(1);
            return;
        };
        let inventory = self.inventory.clone();
        tokio::spawn(async move {
            failpoint::point!("worker.settling");
            for (partition, bookings) in by_partition(settled) {
                if let Err(error) = inventory.settle(partition, &bookings).await {
                    tracing::debug!(%error, %partition, "Redis is not settled yet");
                    metrics::counter!("slotrush_settle_failed_total").increment(1);
                }
            }
            failpoint::point!("worker.settled");
            drop(place);
        });
    }
}

fn persisted_counter(state: State, reason: Option<Reason>) -> metrics::Counter {
    let reason = reason.map_or("none", Reason::as_str);
    metrics::counter!("slotrush_bookings_persisted_total", "state" => state.as_str(), "reason" => reason)
}

fn is_transient(error: &Error) -> bool {
    match error {
        Error::Unavailable(_) | Error::Contended => true,
        Error::Refused { .. } | Error::Unexpected(_) => false,
    }
}

fn by_id(rows: &[Persisted]) -> HashMap<BookingId, Outcome> {
    rows.iter().map(|row| (row.id, row.outcome)).collect()
}

fn by_partition(settled: Vec<(Booking, bool)>) -> BTreeMap<Partition, Vec<(Booking, bool)>> {
    let mut groups = BTreeMap::<_, Vec<_>>::new();
    for entry in settled {
        groups.entry(entry.0.id.partition()).or_default().push(entry);
    }
    groups
}

/// Splits bookings by the partition their ids name, so that an answer by id is an answer by
/// booking: of two different bookings of one id the second goes in a later round.
fn rounds(bookings: &[Booking]) -> Vec<(Partition, Vec<usize>)> {
    let mut seen = HashMap::<BookingId, usize>::new();
    let mut rounds = BTreeMap::<(usize, Partition), Vec<usize>>::new();
    for (at, booking) in bookings.iter().enumerate() {
        let round = seen.entry(booking.id).or_default();
        rounds.entry((*round, booking.id.partition())).or_default().push(at);
        *round += 1;
    }
    for places in rounds.values_mut() {
        failpoint::shuffle!("batch.shuffle", places);
    }
    rounds.into_iter().map(|((_, partition), places)| (partition, places)).collect()
}

#[cfg(test)]
mod tests {
    use booking::{AccountId, Digest, Epoch, PatientId, SlotId, UnixMs};

    use super::*;

    fn booking(id: i64, partition: i64) -> Booking {
        let (slot, patient) = (SlotId::from(512), PatientId::from(id));
        Booking {
            id: BookingId::from((id << 22) | (partition << 16)),
            epoch: Epoch(1),
            slot,
            patient,
            account: AccountId::from(1),
            key: Digest::of_key("k"),
            request: Digest::of_request(slot, patient),
            accepted_at: UnixMs(0),
        }
    }

    #[test]
    fn bookings_go_to_the_partition_their_id_names() {
        let batch = [booking(1, 2), booking(2, 5), booking(3, 2)];
        let (two, five) = (Partition::new(2), Partition::new(5));
        assert_eq!(rounds(&batch), [(two, vec![0, 2]), (five, vec![1])]);
    }

    #[test]
    fn two_different_bookings_of_one_id_never_share_a_statement() {
        let mut other = booking(1, 2);
        other.patient = PatientId::from(77);
        let batch = [booking(1, 2), other, booking(2, 2)];
        let two = Partition::new(2);
        assert_eq!(rounds(&batch), [(two, vec![0, 2]), (two, vec![1])]);
    }
}
