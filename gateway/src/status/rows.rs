//! Looking bookings up in PostgreSQL, many at once.
//!
//! Whoever asks while a query runs waits for the next one, and all of them share it. So thousands
//! of polls a second cost a few dozen queries and one connection, and nobody's query is cancelled.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use booking::BookingId;
use ledger::Ledger;
use ledger::booking_row::BookingRow;
use tokio::sync::{mpsc, oneshot};

/// The ledger did not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PostgreSQL did not answer in time")]
pub struct Down;

type Found = Result<Option<Arc<BookingRow>>, Down>;
type Question = (BookingId, oneshot::Sender<Found>);

const WAITING_MAX: usize = 20_000;
const IDS_PER_QUERY_MAX: usize = 1_000;

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
    while questions.recv_many(&mut batch, IDS_PER_QUERY_MAX).await > 0 {
        batch.retain(|(_, asker)| !asker.is_closed());
        if batch.is_empty() {
            continue;
        }
        let mut ids: Vec<BookingId> = batch.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        match ledger.find_bookings(&ids).await {
            Ok(rows) => {
                let rows: HashMap<BookingId, Arc<BookingRow>> =
                    rows.into_iter().map(|row| (row.booking.id, Arc::new(row))).collect();
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
