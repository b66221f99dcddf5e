//! Looking bookings up in PostgreSQL, many at once.
//!
//! Whoever asks while a query runs waits for the next one, and all of them share it. So thousands
//! of polls a second cost a few dozen queries and one connection, and nobody's query is cancelled.
//!
//! Rows that were read lately are remembered, not to answer from but to name their versions: PostgreSQL
//! looks at each, and sends only those that changed since.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use booking::BookingId;
use ledger::Ledger;
use ledger::booking_row::BookingRow;
use tokio::sync::{mpsc, oneshot};

use crate::recent::Recent;

/// The ledger did not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PostgreSQL did not answer in time")]
pub struct Down;

type Found = Result<Option<Arc<BookingRow>>, Down>;
type Question = (BookingId, oneshot::Sender<Found>);

const WAITING_MAX: usize = 20_000;
const IDS_PER_QUERY_MAX: usize = 1_000;
/// How long a row is remembered, and how many are.
const KNOWN_FOR: Duration = Duration::from_mins(10);
const KNOWN_MAX: usize = 50_000;
/// The version of a row that is not known. They count from 1.
const UNKNOWN: i64 = 0;

/// Asks for rows. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rows(mpsc::Sender<Question>);

impl Rows {
    /// Starts the task that asks.
    pub fn start(ledger: Ledger) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        tokio::spawn(answer_all(ledger, receiver));
        Self(sender)
    }

    /// Returns the row of `id`, if there is one; waits at most `limit`.
    pub async fn find(&self, id: BookingId, limit: Duration) -> Found {
        let (sender, receiver) = oneshot::channel();
        self.0.try_send((id, sender)).map_err(|_| Down)?;
        match tokio::time::timeout(limit, receiver).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) | Err(_) => Err(Down),
        }
    }
}

async fn answer_all(ledger: Ledger, mut questions: mpsc::Receiver<Question>) {
    let mut batch = Vec::new();
    let known = Recent::<BookingId, Arc<BookingRow>>::new(KNOWN_FOR, KNOWN_MAX);
    while questions.recv_many(&mut batch, IDS_PER_QUERY_MAX).await > 0 {
        batch.retain(|(_, asker)| !asker.is_closed());
        if batch.is_empty() {
            continue;
        }
        let mut ids: Vec<BookingId> = batch.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut rows: HashMap<BookingId, Arc<BookingRow>> =
            ids.iter().filter_map(|id| Some((*id, known.get(id)?))).collect();
        let version = |id| rows.get(id).map_or(UNKNOWN, |row| row.version);
        let asked: Vec<(BookingId, i64)> = ids.iter().map(|id| (*id, version(id))).collect();
        match ledger.find_changed(&asked).await {
            Ok(changed) => {
                for row in changed {
                    let (id, row) = (row.booking.id, Arc::new(row));
                    known.put(id, Arc::clone(&row));
                    rows.insert(id, row);
                }
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
