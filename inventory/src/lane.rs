//! The lanes of holds: whoever asks for a place while calls are under way shares the next one.
//!
//! Self-clocking: with nothing under way, and no call a moment ago, a wish is sent at once, alone. While as
//! many calls as may be are under way in its partition, wishes gather for the next. The call is the unit of
//! certainty: when its outcome is unknown, that of each wish in it is.

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

/// All lanes of one Redis.
#[derive(Debug)]
pub(crate) struct Lanes {
    links: Arc<Links>,
    by_partition: Vec<Arc<Lane>>,
    /// How long a wish may wait to be sent: as long as an answer may take after that.
    wait_max: Duration,
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
    pub(crate) fn new(links: Arc<Links>, wait_max: Duration) -> Self {
        let by_partition = (0..PARTITIONS_MAX).map(|_| Arc::default()).collect();
        Self { links, by_partition, wait_max }
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
                let (links, wait_max) = (Arc::clone(&self.links), self.wait_max);
                // In a task of its own: the call is for others too, and whoever began it may leave.
                let judge = async move |sent| judge(&links, partition, sent).await;
                tokio::spawn(turn.run(wait_max, CALLS_APART, judge));
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
    /// Makes one call after the other until nobody waits.
    async fn run(mut self, wait_max: Duration, apart: Duration, judge: impl AsyncFn(Vec<Waiting>)) {
        loop {
            let began = Instant::now();
            let Some(taken) = self.take() else { return };
            let mut sent = Vec::with_capacity(taken.len());
            for waiting in taken {
                if waiting.since.elapsed() > wait_max {
                    // Not sent, so certainly not run.
                    waiting.end(Err(Error::Unavailable));
                } else {
                    sent.push(waiting);
                }
            }
            if !sent.is_empty() {
                judge(sent).await;
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

/// Makes one call and answers everybody in it.
async fn judge(links: &Links, partition: Partition, sent: Vec<Waiting>) {
    let call = hold::call(partition, sent.iter().map(|waiting| &waiting.wish));
    let reply = links.call_hot(&call).await;
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
}

#[cfg(test)]
mod tests {
    use booking::{Booking, Digest, Epoch, UnixMs};
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    fn waiting() -> (Waiting, oneshot::Receiver<Result<Hold, Error>>) {
        let digest = Digest::of_key("k");
        let booking = Booking {
            id: 1.into(),
            epoch: Epoch(1),
            slot: 256.into(),
            patient: 1.into(),
            account: 1.into(),
            key: digest,
            request: digest,
            accepted_at: UnixMs(0),
        };
        let (tell, told) = oneshot::channel();
        let then = Box::new(|hold| drop(tell.send(hold)));
        let wish = Wish { booking, now: UnixMs(0) };
        (Waiting { wish, since: Instant::now(), then }, told)
    }

    /// A lane of its own whose calls end when told to.
    struct Calls {
        lane: Arc<Lane>,
        /// How many wishes each has that began.
        begun: mpsc::UnboundedReceiver<usize>,
        end: mpsc::UnboundedSender<()>,
        answers: Vec<oneshot::Receiver<Result<Hold, Error>>>,
    }

    impl Calls {
        /// A first wish, alone, is under way.
        async fn begin(apart: Duration) -> Self {
            let (tell, begun) = mpsc::unbounded_channel();
            let (end, ends) = mpsc::unbounded_channel::<()>();
            let ends = tokio::sync::Mutex::new(ends);
            let judge = async move |sent: Vec<Waiting>| {
                tell.send(sent.len()).expect("somebody looks");
                ends.lock().await.recv().await;
            };
            let mut calls = Self { lane: Arc::default(), begun, end, answers: Vec::new() };
            let turn = calls.put(1).expect("nothing is under way");
            tokio::spawn(turn.run(Duration::from_hours(2), apart, judge));
            assert_eq!(calls.next().await, Some(1));
            calls
        }

        fn put(&mut self, count: usize) -> Option<Turn> {
            let mut turn = None;
            for _ in 0..count {
                let (waiting, answered) = waiting();
                self.answers.push(answered);
                turn = turn.or(self.lane.put(waiting).expect("there is room"));
            }
            turn
        }

        fn end(&self) {
            self.end.send(()).expect("under way");
        }

        /// How many wishes the next one has.
        async fn next(&mut self) -> Option<usize> {
            let begun = tokio::time::timeout(Duration::from_secs(10), self.begun.recv());
            begun.await.expect("in time")
        }
    }

    #[tokio::test]
    async fn many_that_gathered_go_at_once() {
        let mut calls = Calls::begin(Duration::from_hours(1)).await;
        assert!(calls.put(FEW).is_none());
        calls.end();
        assert_eq!(calls.next().await, Some(FEW));
    }

    #[tokio::test]
    async fn few_that_gathered_wait_for_more() {
        let apart = Duration::from_millis(20);
        let began = Instant::now();
        let mut calls = Calls::begin(apart).await;
        assert!(calls.put(FEW - 1).is_none());
        calls.end();
        assert_eq!(calls.next().await, Some(FEW - 1));
        assert!(began.elapsed() >= apart);
    }

    #[tokio::test]
    async fn few_wait_no_longer_once_they_are_many() {
        let mut calls = Calls::begin(Duration::from_hours(1)).await;
        assert!(calls.put(FEW - 1).is_none());
        calls.end();
        // On one thread: the turn comes to where it waits.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(calls.begun.is_empty());
        assert!(calls.put(1).is_none());
        assert_eq!(calls.next().await, Some(FEW));
    }

    #[tokio::test]
    async fn who_waits_in_a_turn_that_is_cut_short_is_not_kept_waiting() {
        let lane = Arc::<Lane>::default();
        let (first, told) = waiting();
        let turn = lane.put(first).expect("there is room").expect("nothing is under way");
        drop(turn);
        assert!(told.await.is_err(), "dropped uncalled: unknown");
        let (next, _told) = waiting();
        assert!(
            lane.put(next).expect("there is room").is_some(),
            "whoever comes next begins a turn"
        );
    }

    #[tokio::test]
    async fn whoever_finds_the_lane_full_gets_the_wish_back() {
        let lane = Arc::<Lane>::default();
        let mut first = None;
        for _ in 0..WAITING_MAX {
            first = first.or(lane.put(waiting().0).expect("there is room"));
        }
        let (refused, told) = waiting();
        let refused = lane.put(refused).err().expect("no room");
        refused.end(Err(Error::Overloaded));
        assert!(matches!(told.await, Ok(Err(Error::Overloaded))));
    }

    #[tokio::test]
    async fn a_panic_in_what_follows_a_hold_is_no_matter_of_the_others() {
        let (mut one, _) = waiting();
        one.then = Box::new(|_| panic!("as if"));
        let (other, told) = waiting();
        for waiting in [one, other] {
            waiting.end(Ok(Hold::SoldOut));
        }
        assert!(matches!(told.await, Ok(Ok(Hold::SoldOut))));
    }
}
