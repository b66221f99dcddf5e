//! How many changes of bookings there are, asked once for everybody who wants to know at the moment.
//!
//! Whoever asks hears a count that PostgreSQL read after the question: a change that anybody was told of
//! before is in it. So whoever asks while a query runs waits for the next one.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ledger::Ledger;
use ledger::changed::ChangeCount;
use tokio::sync::Notify;

/// How often all others get their turn before a query, at most …
const TURNS_MAX: usize = 16;
/// … and for how many turns nobody has joined when it is asked.
const QUIET_TURNS: usize = 2;

/// The count, and who waits for it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Watermark(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The round whose query has not begun.
    next: Mutex<Arc<Round>>,
    is_wanted: Notify,
    /// The highest count read so far.
    newest: AtomicI64,
}

/// One query, and who waits for it.
#[derive(Debug, Default)]
struct Round {
    has_joined: AtomicBool,
    /// The count, or none if PostgreSQL did not tell.
    answer: OnceLock<Option<ChangeCount>>,
    done: Notify,
}

impl Watermark {
    /// Starts the task that asks.
    pub fn start(ledger: Ledger) -> Self {
        let watermark = Self::default();
        tokio::spawn(watermark.clone().ask_on(ledger));
        watermark
    }

    /// Returns the count as it is after this call began; `None` if PostgreSQL does not tell.
    pub async fn ask(&self) -> Option<ChangeCount> {
        let round = Arc::clone(&self.next());
        // Before the look at the answer: it hears of every end from here on.
        let done = round.done.notified();
        if !round.has_joined.swap(true, Ordering::AcqRel) {
            self.0.is_wanted.notify_one();
        }
        if round.answer.get().is_none() {
            done.await;
        }
        round.answer.get().copied().flatten()
    }

    /// Returns the highest count that was read. There may be more by now.
    pub fn newest(&self) -> ChangeCount {
        ChangeCount(self.0.newest.load(Ordering::Acquire))
    }

    /// Notes a count that was read elsewhere.
    pub fn note(&self, count: ChangeCount) {
        self.0.newest.fetch_max(count.0, Ordering::AcqRel);
    }

    fn next(&self) -> std::sync::MutexGuard<'_, Arc<Round>> {
        self.0.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets requests that have come already join in, as long as there are more of them: the question costs
    /// as much as several polls.
    async fn gather(&self) {
        let (mut joined, mut quiet_turns) = (0, 0);
        for _ in 0..TURNS_MAX {
            tokio::task::yield_now().await;
            // Everybody who waits has the round.
            let now = Arc::strong_count(&self.next());
            quiet_turns = if now == joined { quiet_turns + 1 } else { 0 };
            if quiet_turns == QUIET_TURNS {
                break;
            }
            joined = now;
        }
    }

    async fn ask_on(self, ledger: Ledger) {
        loop {
            self.0.is_wanted.notified().await;
            self.gather().await;
            // Before the query: who comes from here on may know of a change that it does not see.
            let round = std::mem::take(&mut *self.next());
            let answer = ledger.change_count().await;
            let answer = answer.inspect_err(|error| tracing::debug!(%error, "not counted")).ok();
            if let Some(count) = answer {
                self.note(count);
            }
            let _ = round.answer.set(answer);
            round.done.notify_waiters();
        }
    }
}
