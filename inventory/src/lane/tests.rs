//! Turns and who waits in them, without a Redis: calls end when a test says so.

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

const LONG: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_secs(10);

/// A lane of its own whose calls end when told to.
struct Calls {
    lane: Arc<Lane>,
    /// How many wishes each has that began.
    begun: mpsc::UnboundedReceiver<usize>,
    /// Whether Redis answered.
    end: mpsc::UnboundedSender<bool>,
    answers: Vec<oneshot::Receiver<Result<Hold, Error>>>,
}

impl Calls {
    /// A first wish, alone, is under way.
    async fn begin(apart: Duration) -> Self {
        let (tell, begun) = mpsc::unbounded_channel();
        let (end, ends) = mpsc::unbounded_channel();
        let ends = tokio::sync::Mutex::new(ends);
        let judge = async move |sent: Vec<Waiting>| {
            tell.send(sent.len()).expect("somebody looks");
            ends.lock().await.recv().await.is_none_or(|is_answered| is_answered)
        };
        let mut calls = Self { lane: Arc::default(), begun, end, answers: Vec::new() };
        let turn = calls.put(1).expect("nothing is under way");
        tokio::spawn(turn.run(Patience { answering: LONG, silent: SHORT }, apart, judge));
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

    /// Somebody who has waited for so long.
    fn put_after(&mut self, waited: Duration) {
        let (waiting, answered) = waiting();
        self.answers.push(answered);
        let since = Instant::now() - waited;
        assert!(self.lane.put(Waiting { since, ..waiting }).is_ok_and(|turn| turn.is_none()));
    }

    fn end(&self, is_answered: bool) {
        self.end.send(is_answered).expect("under way");
    }

    /// What the one who came last hears.
    async fn last_hears(&mut self) -> Result<Hold, Error> {
        let answer = self.answers.pop().expect("somebody came");
        let answer = tokio::time::timeout(Duration::from_secs(10), answer).await.expect("in time");
        answer.unwrap_or(Err(Error::Unknown))
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
    calls.end(true);
    assert_eq!(calls.next().await, Some(FEW));
}

#[tokio::test]
async fn few_that_gathered_wait_for_more() {
    let apart = Duration::from_millis(20);
    let began = Instant::now();
    let mut calls = Calls::begin(apart).await;
    assert!(calls.put(FEW - 1).is_none());
    calls.end(true);
    assert_eq!(calls.next().await, Some(FEW - 1));
    assert!(began.elapsed() >= apart);
}

#[tokio::test]
async fn few_wait_no_longer_once_they_are_many() {
    let mut calls = Calls::begin(Duration::from_hours(1)).await;
    assert!(calls.put(FEW - 1).is_none());
    calls.end(true);
    // On one thread: the turn comes to where it waits.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(calls.begun.is_empty());
    assert!(calls.put(1).is_none());
    assert_eq!(calls.next().await, Some(FEW));
}

#[tokio::test]
async fn in_a_rush_one_waits_longer_than_for_a_redis_that_is_silent() {
    let mut calls = Calls::begin(Duration::ZERO).await;
    calls.put_after(SHORT + Duration::from_secs(1));
    calls.end(true);
    assert_eq!(calls.next().await, Some(1), "Redis answers: it is judged");
    calls.put_after(SHORT + Duration::from_secs(1));
    calls.end(false);
    assert!(matches!(calls.last_hears().await, Err(Error::Unavailable)));
}

#[tokio::test]
async fn who_waited_for_too_long_in_a_rush_is_told_so() {
    let mut calls = Calls::begin(Duration::ZERO).await;
    calls.put_after(LONG + Duration::from_secs(1));
    calls.end(true);
    assert!(matches!(calls.last_hears().await, Err(Error::Overloaded)));
}

#[tokio::test]
async fn who_waits_in_a_turn_that_is_cut_short_is_not_kept_waiting() {
    let lane = Arc::<Lane>::default();
    let (first, told) = waiting();
    let turn = lane.put(first).expect("there is room").expect("nothing is under way");
    drop(turn);
    assert!(told.await.is_err(), "dropped uncalled: unknown");
    let (next, _told) = waiting();
    assert!(lane.put(next).expect("there is room").is_some(), "whoever comes next begins a turn");
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
