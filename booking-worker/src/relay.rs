//! The role that pushes on what is stuck between Redis and PostgreSQL: step Y1.
//!
//! An entry stands in a partition's outbox from the hold until its row is settled. One that grew
//! old lost its gateway, its confirm or its settling: if it has its row it is settled, otherwise it
//! is published (again). Nothing without a row is ever deleted, and nobody is told "queued" here.
//!
//! Where the queue of its partition moves in this program, an entry is left alone until the queue has come
//! past it ([`crate::Fronts`]).

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use booking::message::{BOOKINGS_PER_ENVELOPE_MAX, Message};
use booking::{Booking, BookingId, Envelope, Partition, UnixMs};
use broker::Link;
use ledger::booking_row::BookingRow;
use ledger::parked::Parked;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::fault::Fault;
use crate::{Servers, Settings, pause};

/// Entries looked at in one step.
const ENTRIES_PER_STEP: usize = 500;
/// Pause between two steps of a walk, and after one in which there was nothing to do: a long outbox, of a
/// long queue, must not take the time that its bookings need. So at most 20,000 entries of a partition are
/// looked at in a second, about as many as can be persisted.
const NEXT_STEP: Duration = Duration::from_millis(1);
const NEXT_STEP_IDLE: Duration = Duration::from_millis(25);
/// First and longest pause before the same booking is published again.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
const AGAIN_AFTER_MAX: Duration = Duration::from_mins(1);
/// Bookings whose publishing is remembered; beyond it the relay takes its time.
const REMEMBERED_MAX: usize = 10_000;
/// Pages of parked messages that are searched for an unreadable entry that was parked before.
const PARKED_PAGES_MAX: usize = 50;
const PARKED_PAGE: u16 = 100;
/// Reason word of an entry that can't be read.
pub const UNREADABLE: &str = "unreadable_outbox_entry";

/// Why a step was not finished. The next one begins where it stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL did not answer as it should.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// Redis did not answer as it should.
    #[error(transparent)]
    Inventory(#[from] inventory::Error),
}

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relayed {
    /// Entries taken out because their row exists.
    pub settled: usize,
    /// Entries published.
    pub published: usize,
    /// Whether the whole outbox was walked through.
    pub is_round_over: bool,
}

/// Relays one partition.
#[derive(Debug)]
pub struct Relay {
    servers: Servers,
    partition: Partition,
    after_ms: u64,
    cursor: u64,
    /// Age of the oldest entry met since the round began (ms).
    oldest_ms: u64,
    /// What was shown of that last.
    shown_ms: u64,
    published: HashMap<BookingId, Again>,
    /// Fields of unreadable entries that are known to be parked.
    parked: HashSet<String>,
}

/// When a booking may be published again.
#[derive(Clone, Copy, Debug)]
struct Again {
    at: Instant,
    pause: Duration,
}

impl Relay {
    /// Relays entries of `partition` that are older than `after_ms`.
    pub fn new(servers: &Servers, partition: Partition, after_ms: u64) -> Self {
        Self {
            servers: servers.clone(),
            partition,
            after_ms,
            cursor: 0,
            oldest_ms: 0,
            shown_ms: 0,
            published: HashMap::new(),
            parked: HashSet::new(),
        }
    }

    /// Looks at the next part of the outbox.
    pub async fn step(&mut self) -> Result<Relayed, Error> {
        let (cursor, outbox) = self
            .servers
            .inventory
            .scan_outbox(self.partition, self.cursor, ENTRIES_PER_STEP)
            .await?;
        self.park_unreadable(&outbox.unreadable).await?;
        let now = self.servers.clock.now();
        let ages = outbox.bookings.iter().map(|booking| now.since(booking.id.minted_at()));
        self.oldest_ms = ages.fold(self.oldest_ms, u64::max);
        let mut old = outbox.bookings;
        old.retain(|b| is_stuck(b.id, now, self.after_ms));
        // What only waits in a long queue would stand in it twice, and make it longer still. An id from
        // the future says nothing of the order.
        let fronts = &self.servers.fronts;
        old.retain(|b| b.id.minted_at() > now || !fronts.may_wait(self.partition, b.id));
        let (settled, rowless) = self.settle(old).await?;
        let published = self.publish(rowless).await;
        self.cursor = cursor;
        let is_round_over = cursor == 0;
        // An older one is shown at once: a walk over a long outbox takes a while.
        if is_round_over || self.oldest_ms > self.shown_ms {
            self.shown_ms = self.oldest_ms;
            note_oldest(self.partition, Duration::from_millis(self.shown_ms).as_secs_f64());
        }
        if is_round_over {
            self.forget();
            self.oldest_ms = 0;
        }
        Ok(Relayed { settled, published, is_round_over })
    }

    /// Settles those that have their row; returns how many, and the others.
    async fn settle(&self, old: Vec<Booking>) -> Result<(usize, Vec<Booking>), Error> {
        if old.is_empty() {
            return Ok((0, old));
        }
        let ids: Vec<BookingId> = old.iter().map(|booking| booking.id).collect();
        let rows = self.servers.ledger.find_bookings(&ids).await?;
        let (settled, rowless) = split(old, &rows);
        if !settled.is_empty() {
            failpoint::point!("relay.settling");
            self.servers.inventory.settle(self.partition, &settled).await?;
            failpoint::point!("relay.settled");
            metrics::counter!("slotrush_relay_settled_total").increment(count(settled.len()));
        }
        Ok((settled.len(), rowless))
    }

    async fn publish(&mut self, bookings: Vec<Booking>) -> usize {
        let now = Instant::now();
        let is_due = |b: &Booking| self.published.get(&b.id).is_none_or(|again| again.at <= now);
        let mut due: Vec<Booking> = bookings.into_iter().filter(is_due).collect();
        due.truncate(
            REMEMBERED_MAX.saturating_sub(self.published.len()).max(BOOKINGS_PER_ENVELOPE_MAX),
        );
        // In the order they were accepted, as far as that is known.
        due.sort_by_key(|booking| booking.id);
        let mut published = 0;
        for bookings in due.chunks(BOOKINGS_PER_ENVELOPE_MAX) {
            if self.servers.publisher.link() != Link::Up {
                break;
            }
            let ids: Vec<BookingId> = bookings.iter().map(|booking| booking.id).collect();
            let message = Message::Envelope(Envelope::new(bookings.to_vec()));
            failpoint::point!("relay.publishing");
            // An unknown outcome is no reason for haste: it may well stand in the queue.
            let outcome = self.servers.publisher.send(self.partition, &message).await;
            failpoint::point!("relay.confirmed", if outcome.is_ok());
            tracing::info!(partition = %self.partition, bookings = ids.len(), confirmed = outcome.is_ok(), "relayed");
            metrics::counter!("slotrush_relay_published_total").increment(count(ids.len()));
            published += ids.len();
            for id in ids {
                self.remember(id);
            }
            if outcome.is_err() {
                break;
            }
        }
        published
    }

    fn remember(&mut self, id: BookingId) {
        let again =
            self.published.entry(id).or_insert(Again { at: Instant::now(), pause: AGAIN_AFTER });
        again.at = Instant::now() + again.pause;
        again.pause = (again.pause * 2).min(AGAIN_AFTER_MAX);
    }

    /// Forgets what was not due for so long that it is gone from the outbox.
    fn forget(&mut self) {
        let now = Instant::now();
        self.published.retain(|_, again| now < again.at + AGAIN_AFTER_MAX);
        if self.published.len() >= REMEMBERED_MAX {
            self.published.clear();
        }
    }

    async fn park_unreadable(&mut self, entries: &[(String, String)]) -> Result<(), Error> {
        for (field, value) in entries {
            if self.parked.contains(field) {
                continue;
            }
            metrics::counter!("slotrush_outbox_unreadable_total").increment(1);
            // The detail names the entry, so that it is parked once even by two relays in a row.
            let detail = entry_name(field);
            if !self.is_parked(&detail).await? {
                tracing::error!(partition = %self.partition, entry = detail, "an outbox entry is not readable");
                let parked = Parked::Message { entry: None, body: value.clone().into_bytes() };
                let ledger = &self.servers.ledger;
                ledger.park(self.partition, UNREADABLE, &detail, &[parked]).await?;
            }
            if self.parked.len() >= REMEMBERED_MAX {
                self.parked.clear();
            }
            self.parked.insert(field.clone());
        }
        Ok(())
    }

    async fn is_parked(&self, detail: &str) -> Result<bool, Error> {
        let mut before = None;
        for _ in 0..PARKED_PAGES_MAX {
            let page = self.servers.ledger.parked(before, PARKED_PAGE).await?;
            let is_it = |row: &ledger::parked::ParkedRow| {
                row.partition == self.partition && row.reason == UNREADABLE && row.detail == detail
            };
            if page.iter().any(is_it) {
                return Ok(true);
            }
            match page.last() {
                Some(last) if page.len() == usize::from(PARKED_PAGE) => before = Some(last.id),
                _ => break,
            }
        }
        Ok(false)
    }
}

/// Starts one relay per partition.
pub(crate) fn spawn(
    servers: &Servers,
    settings: &Settings,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) {
    for partition in servers.partitions().all() {
        let relay = Relay::new(servers, partition, settings.relay_after_ms);
        let interval = Duration::from_millis(settings.relay_interval_ms);
        tasks.spawn(run(relay, interval, shutdown.clone()));
    }
}

async fn run(mut relay: Relay, interval: Duration, shutdown: CancellationToken) {
    let mut fault = Fault::of(format!("relaying partition {}", relay.partition));
    loop {
        let relayed = fault.note(relay.step().await);
        if relayed.is_none() {
            // Nobody knows what waits: a number of before must not pass for one of now.
            note_oldest(relay.partition, f64::NAN);
        }
        let wait = match relayed {
            Some(Relayed { is_round_over: false, published: 0, settled: 0 }) => NEXT_STEP_IDLE,
            Some(Relayed { is_round_over: false, .. }) => NEXT_STEP,
            Some(Relayed { is_round_over: true, .. }) | None => interval,
        };
        if !pause(&shutdown, wait).await {
            break;
        }
    }
}

/// L1 as a gauge: how long the oldest accepted booking waits for its row to be settled (s).
fn note_oldest(partition: Partition, seconds: f64) {
    let partition = partition.to_string();
    metrics::gauge!("slotrush_outbox_oldest_seconds", "partition" => partition).set(seconds);
}

/// Tells whether an entry has stood for so long that nobody else will carry it. An id from the
/// future tells that a clock is wrong, and nothing about its age.
fn is_stuck(id: BookingId, now: UnixMs, after_ms: u64) -> bool {
    let minted = id.minted_at();
    now.since(minted) >= after_ms || minted.since(now) >= after_ms
}

/// Splits entries into those whose row exists, with whether it is live, and the others. A row of
/// another booking under the same id is none: the entry goes on to the queue, and is parked there.
fn split(entries: Vec<Booking>, rows: &[BookingRow]) -> (Vec<(Booking, bool)>, Vec<Booking>) {
    let rows: HashMap<BookingId, &BookingRow> =
        rows.iter().map(|row| (row.booking.id, row)).collect();
    let (mut settled, mut rowless) = (Vec::new(), Vec::new());
    for entry in entries {
        match rows.get(&entry.id) {
            Some(row) if is_same(&row.booking, &entry) => {
                settled.push((entry, row.state.is_live()));
            }
            Some(_) | None => rowless.push(entry),
        }
    }
    (settled, rowless)
}

fn is_same(a: &Booking, b: &Booking) -> bool {
    (a.patient, a.slot, a.epoch) == (b.patient, b.slot, b.epoch)
}

/// An entry's field is a booking id; anything else is not repeated, lest it say too much.
fn entry_name(field: &str) -> String {
    field.parse::<BookingId>().map_or_else(|_| "field is no id".into(), |id| id.to_string())
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use booking::snowflake::ID_EPOCH;
    use booking::{AccountId, Digest, Epoch, PatientId, SlotId, State};

    use super::*;

    fn booking(id: i64) -> Booking {
        let (slot, patient) = (SlotId::from(512), PatientId::from(id));
        Booking {
            id: BookingId::from(id << 22),
            epoch: Epoch(1),
            slot,
            patient,
            account: AccountId::from(1),
            key: Digest::of_key("k"),
            request: Digest::of_request(slot, patient),
            accepted_at: UnixMs(0),
        }
    }

    fn row(booking: &Booking, state: State) -> BookingRow {
        BookingRow {
            booking: booking.clone(),
            state,
            reason: None,
            number: Some(1),
            version: 1,
            persisted_at: UnixMs(0),
            changed_at: UnixMs(0),
        }
    }

    #[test]
    fn only_an_entry_of_some_age_is_stuck_and_a_wrong_clock_hides_none() {
        let id = booking(10_000).id;
        let at = |ms: i64| ID_EPOCH.plus_ms(10_000 + ms);
        assert!(!is_stuck(id, at(499), 500));
        assert!(is_stuck(id, at(500), 500));
        assert!(!is_stuck(id, at(-499), 500));
        assert!(is_stuck(id, at(-60_000), 500));
    }

    #[test]
    fn an_entry_is_settled_only_by_its_own_row() {
        let (won, gone, waits, mut clash) = (booking(1), booking(2), booking(3), booking(4));
        let rows =
            [row(&won, State::Booked), row(&gone, State::Cancelled), row(&clash, State::Booked)];
        clash.patient = PatientId::from(99);
        let entries = vec![won.clone(), gone.clone(), waits.clone(), clash.clone()];
        let (settled, rowless) = split(entries, &rows);
        assert_eq!(settled, [(won, true), (gone, false)]);
        assert_eq!(rowless, [waits, clash]);
    }

    #[test]
    fn what_is_not_an_id_is_not_repeated() {
        assert_eq!(entry_name("12"), "12");
        assert_eq!(entry_name("a name"), "field is no id");
    }
}
