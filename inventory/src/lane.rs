//! The lanes of holds: whoever asks for a place while calls are under way shares the next one.
//!
//! Self-clocking: with nothing under way, and no call a moment ago, a wish is sent at once, alone. While as
//! many calls as may be are under way in its partition, wishes gather for the next. The call is the unit of
//! certainty: when its outcome is unknown, that of each wish in it is.
//!
//! Who waits does so because many came at one instant, or because Redis is silent. The first is worth a wait.

use std::collections::VecDeque;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use booking::Partition;
use booking::partition::PARTITIONS_MAX;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::error::Error;
use crate::hold::{self, Hold, Wish};
use crate::links::Links;

/// Wishes judged by one call, during which Redis does nothing else: about 0.5 ms.
pub(crate) const WISHES_PER_CALL_MAX: usize = 64;
/// Calls under way in a partition. A second one would let Redis work while the first travels, but then each
/// is half as full, and what a call costs by itself counts twice (docs/performance.md).
const CALLS_MAX: usize = 1;
/// As long as fewer wishes wait, a call begins no sooner than [`CALLS_APART`] after the one before: what a call
/// costs by itself is as much as that of two wishes, and in a calm minute nearly all would come alone.
const FEW: usize = 8;
/// What lies between the beginnings of calls for few; the runtime's clock makes it up to two milliseconds.
const CALLS_APART: Duration = Duration::from_millis(1);
/// Wishes of a partition that may wait to be sent.
const WAITING_MAX: usize = 16_384;
/// How long a wish may wait to be sent while Redis answers: a gateway lets in for a second whoever comes in a rush.
const RUSH_MAX: Duration = Duration::from_secs(1);

/// All lanes of one Redis.
#[derive(Debug)]
pub(crate) struct Lanes {
    links: Arc<Links>,
    by_partition: Vec<Arc<Lane>>,
    patience: Patience,
}

/// How long a wish may wait to be sent.
#[derive(Clone, Copy, Debug)]
struct Patience {
    answering: Duration,
    /// After a call without an answer.
    silent: Duration,
}

/// Who waits in one partition, and how many turns there are.
#[derive(Debug, Default)]
struct Lane {
    state: Mutex<State>,
    /// Those that wait are few no more.
    gathered: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// Turns that are not over: each makes a call, or lets wishes gather for its next.
    calls: usize,
}

struct Waiting {
    wish: Wish,
    since: Instant,
    then: Then,
}

/// What a hold's outcome is handed to. Dropped uncalled, the outcome is [`Error::Unknown`].
type Then = Box<dyn FnOnce(Result<Hold, Error>) + Send>;

impl Waiting {
    /// Hands the outcome on. What comes of a panic there is its own: the others in the call get theirs.
    fn end(self, hold: Result<Hold, Error>) {
        let then = self.then;
        if catch_unwind(AssertUnwindSafe(|| then(hold))).is_err() {
            tracing::error!("what follows a hold panicked");
        }
    }
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("wish", &self.wish).finish_non_exhaustive()
    }
}

impl Lanes {
    /// Starts empty. While Redis is silent no wish is sent that waited longer than `silent_max`.
    pub(crate) fn new(links: Arc<Links>, silent_max: Duration) -> Self {
        let by_partition = (0..PARTITIONS_MAX).map(|_| Arc::default()).collect();
        let patience = Patience { answering: RUSH_MAX.max(silent_max), silent: silent_max };
        Self { links, by_partition, patience }
    }

    /// Calls under way in a partition, and wishes that wait for the next.
    #[cfg(test)]
    pub(crate) fn standing(&self, partition: Partition) -> (usize, usize) {
        let state = self.by_partition[usize::from(partition.get())].state();
        (state.calls, state.waiting.len())
    }

    /// Has a wish judged, and `then` called with the outcome.
    pub(crate) fn hold_then(
        &self,
        partition: Partition,
        wish: Wish,
        then: impl FnOnce(Result<Hold, Error>) + Send + 'static,
    ) {
        let lane = &self.by_partition[usize::from(partition.get())];
        match lane.put(Waiting { wish, since: Instant::now(), then: Box::new(then) }) {
            Ok(None) => {}
            Ok(Some(turn)) => {
                let links = Arc::clone(&self.links);
                // In a task of its own: the call is for others too, and whoever began it may leave.
                let judge = async move |sent| judge(&links, partition, sent).await;
                tokio::spawn(turn.run(self.patience, CALLS_APART, judge));
            }
            Err(refused) => refused.end(Err(Error::Overloaded)),
        }
    }
}

impl Lane {
    /// Queues a wish; returns the turn of one more call, if it may begin. The wish itself comes back where
    /// as many wait as may.
    fn put(self: &Arc<Self>, waiting: Waiting) -> Result<Option<Turn>, Waiting> {
        let mut state = self.state();
        if state.waiting.len() >= WAITING_MAX {
            return Err(waiting);
        }
        state.waiting.push_back(waiting);
        let may_begin = state.calls < CALLS_MAX;
        state.calls += usize::from(may_begin);
        if state.waiting.len() == FEW {
            self.gathered.notify_one();
        }
        drop(state);
        Ok(may_begin.then(|| Turn { lane: Arc::clone(self), is_over: false }))
    }

    /// Waits until some time, or until those that wait are few no more.
    async fn gather(&self, until: Instant) {
        while self.state().waiting.len() < FEW {
            tokio::select! {
                () = self.gathered.notified() => {}
                () = sleep_until(until) => return,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What it guards is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to have one call under way.
struct Turn {
    lane: Arc<Lane>,
    is_over: bool,
}

impl Turn {
    /// Makes one call after the other until nobody waits. `judge` tells whether Redis answered.
    async fn run(
        mut self,
        patience: Patience,
        apart: Duration,
        judge: impl AsyncFn(Vec<Waiting>) -> bool,
    ) {
        let mut is_answering = true;
        loop {
            let (wait_max, late) = if is_answering {
                (patience.answering, Error::Overloaded)
            } else {
                (patience.silent, Error::Unavailable)
            };
            let began = Instant::now();
            let Some(taken) = self.take() else { return };
            let mut sent = Vec::with_capacity(taken.len());
            for waiting in taken {
                if waiting.since.elapsed() > wait_max {
                    // Not sent, so certainly not run.
                    waiting.end(Err(late.clone()));
                } else {
                    sent.push(waiting);
                }
            }
            if !sent.is_empty() {
                is_answering = judge(sent).await;
            }
            self.lane.gather(began + apart).await;
        }
    }

    /// Takes who waits, up to a call; with nobody there the turn is over.
    fn take(&mut self) -> Option<Vec<Waiting>> {
        let mut state = self.lane.state();
        let count = state.waiting.len().min(WISHES_PER_CALL_MAX);
        if count == 0 {
            // In the same breath as the look: whoever comes next begins a turn.
            state.calls -= 1;
            self.is_over = true;
            return None;
        }
        Some(state.waiting.drain(..count).collect())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // Cut short: nobody would come for those who wait.
        let mut state = self.lane.state();
        state.calls -= 1;
        let left = mem::take(&mut state.waiting);
        drop(state);
        // Not under the lock: what is dropped is others' code.
        drop(left);
    }
}

/// Makes one call and answers everybody in it. Tells whether Redis did.
async fn judge(links: &Links, partition: Partition, sent: Vec<Waiting>) -> bool {
    let call = hold::call(partition, sent.iter().map(|waiting| &waiting.wish));
    let reply = links.call_hot(&call).await;
    // Without a connection nobody waits.
    let is_answered = !matches!(reply, Err(Error::Unknown));
    let holds = reply.and_then(|value| hold::parse(value, sent.len()));
    match holds {
        Ok(holds) => {
            for (waiting, hold) in sent.into_iter().zip(holds) {
                waiting.end(hold);
            }
        }
        Err(error) => {
            for waiting in sent {
                waiting.end(Err(error.clone()));
            }
        }
    }
    is_answered
}

#[cfg(test)]
mod tests;
