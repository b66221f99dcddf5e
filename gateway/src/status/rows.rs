//! Looking bookings up in PostgreSQL, many at once.
//!
//! Whoever asks while a query runs waits for the next one, and all of them share it. So thousands
//! of polls a second cost a few dozen queries and one connection, and nobody's query is cancelled.
//!
//! Rows that were read lately are remembered, with the count of all changes of bookings as it was then.
//! They are answered from memory only if that count, read after the question, is still the same. Else
//! PostgreSQL looks at the row, and sends it only if it changed.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use booking::BookingId;
use bytes::Bytes;
use ledger::Ledger;
use ledger::booking_row::BookingRow;
use ledger::changed::{ChangeCount, Changed};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::watermark::Watermark;
use crate::recent::Recent;

/// The ledger did not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PostgreSQL did not answer in time")]
pub struct Down;

type Found = Result<Option<Arc<FinalRow>>, Down>;
type Question = (BookingId, oneshot::Sender<Found>);
type Known = Recent<BookingId, Arc<FinalRow>>;

const WAITING_MAX: usize = 20_000;
const IDS_PER_QUERY_MAX: usize = 1_000;
/// How long a row is remembered, and how many are.
const KNOWN_FOR: Duration = Duration::from_mins(10);
const KNOWN_MAX: usize = 50_000;
/// The version of a row that is not known. They count from 1.
const UNKNOWN: i64 = 0;
/// How long to wait for the count, before the row is looked at.
const COUNT_WAIT: Duration = Duration::from_millis(200);
/// The count that no row was read at.
const NEVER: i64 = -1;

/// A row, and what is shown of it.
#[derive(Debug)]
pub struct FinalRow {
    row: Arc<BookingRow>,
    /// The count of changes at which this was the row.
    as_of: AtomicI64,
    /// What its account is answered, once somebody was.
    pub text: OnceLock<Bytes>,
}

impl FinalRow {
    /// A row that was read at a time that is not known.
    pub fn new(row: Arc<BookingRow>) -> Self {
        Self { row, as_of: AtomicI64::new(NEVER), text: OnceLock::new() }
    }

    /// Returns the row alone.
    pub fn row(&self) -> &Arc<BookingRow> {
        &self.row
    }

    fn as_of(&self) -> ChangeCount {
        ChangeCount(self.as_of.load(Ordering::Acquire))
    }

    fn verify(&self, count: ChangeCount) {
        self.as_of.fetch_max(count.0, Ordering::AcqRel);
    }
}

impl Deref for FinalRow {
    type Target = BookingRow;

    fn deref(&self) -> &BookingRow {
        &self.row
    }
}

/// Asks for rows. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rows {
    questions: mpsc::Sender<Question>,
    known: Arc<Known>,
    watermark: Watermark,
}

impl Rows {
    /// Starts the tasks that ask.
    pub fn start(ledger: Ledger) -> Self {
        let (questions, receiver) = mpsc::channel(WAITING_MAX);
        let known = Arc::new(Recent::new(KNOWN_FOR, KNOWN_MAX));
        let watermark = Watermark::start(ledger.clone());
        tokio::spawn(answer_all(ledger, Arc::clone(&known), watermark.clone(), receiver));
        Self { questions, known, watermark }
    }

    /// Returns the row of `id` as it is after this call began, if there is one; waits at most `limit`.
    pub async fn find(&self, id: BookingId, limit: Duration) -> Found {
        let until = Instant::now() + limit;
        if let Some(known) = self.known.get(&id)
            // Else it must be looked at in any case.
            && known.as_of() >= self.watermark.newest()
        {
            // If it does not come, the row itself may: over another connection.
            let answered = timeout_at(until.min(Instant::now() + COUNT_WAIT), self.watermark.ask());
            if let Ok(Some(count)) = answered.await
                && known.as_of() >= count
            {
                return Ok(Some(known));
            }
        }
        // In a box: few polls need it, and all would carry room for it.
        Box::pin(self.look(id, until)).await
    }

    /// Lets PostgreSQL look at the row.
    async fn look(&self, id: BookingId, until: Instant) -> Found {
        let (sender, receiver) = oneshot::channel();
        self.questions.try_send((id, sender)).map_err(|_| Down)?;
        match timeout_at(until, receiver).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) | Err(_) => Err(Down),
        }
    }
}

async fn answer_all(
    ledger: Ledger,
    known: Arc<Known>,
    watermark: Watermark,
    mut questions: mpsc::Receiver<Question>,
) {
    let mut batch = Vec::new();
    while questions.recv_many(&mut batch, IDS_PER_QUERY_MAX).await > 0 {
        batch.retain(|(_, asker)| !asker.is_closed());
        if batch.is_empty() {
            continue;
        }
        let mut ids: Vec<BookingId> = batch.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut rows: HashMap<BookingId, Arc<FinalRow>> =
            ids.iter().filter_map(|id| Some((*id, known.get(id)?))).collect();
        let version = |id| rows.get(id).map_or(UNKNOWN, |row| row.version);
        let asked: Vec<(BookingId, i64)> = ids.iter().map(|id| (*id, version(id))).collect();
        match ledger.find_changed(&asked).await {
            Ok(Changed { rows: changed, count }) => {
                for row in changed {
                    let (id, row) = (row.booking.id, Arc::new(FinalRow::new(Arc::new(row))));
                    known.put(id, Arc::clone(&row));
                    rows.insert(id, row);
                }
                for row in rows.values() {
                    row.verify(count);
                }
                watermark.note(count);
                for (id, asker) in batch.drain(..) {
                    // Whoever left meanwhile needs no answer.
                    let _ = asker.send(Ok(rows.get(&id).cloned()));
                }
            }
            Err(error) => {
                tracing::debug!(%error, "looking bookings up failed");
                for (_, asker) in batch.drain(..) {
                    let _ = asker.send(Err(Down));
                }
            }
        }
    }
}
