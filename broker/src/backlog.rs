//! What waits to be sent in one partition: bookings, which travel in envelopes, and whole messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use booking::message::{BOOKINGS_PER_ENVELOPE_MAX, Message};
use booking::{Booking, Partition};
use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::publisher::Published;

/// Whole messages that may wait: barriers and relayed envelopes, whose senders wait for each.
const MESSAGES_WAITING_MAX: usize = 64;
/// How long an envelope may be under way before the next leaves without it, however few it holds. Longer than
/// most take: a message costs what it costs however few share it.
const HOLD_UP_MAX: Duration = Duration::from_millis(5);

/// What is done once it is known what became of a booking.
pub(crate) type Answer = Box<dyn FnOnce(Published) + Send>;

/// A booking that waits. Dropped unanswered, it leaves its caller uncertain.
pub(crate) struct Entry {
    pub(crate) booking: Booking,
    pub(crate) answer: Answer,
    _place: Place,
}

/// A message that waits. Dropped unanswered, it leaves its caller not knowing.
pub(crate) struct Parcel {
    pub(crate) message: Message,
    pub(crate) confirmed: oneshot::Sender<()>,
}

/// The side that puts in.
#[derive(Debug)]
pub(crate) struct Inlet {
    bookings: mpsc::Sender<Entry>,
    messages: mpsc::Sender<Parcel>,
    waiting: Arc<AtomicUsize>,
    waiting_max: usize,
    traffic: Arc<Traffic>,
}

/// The side that takes out, shared by the partition's lanes.
pub(crate) struct Backlog {
    pub(crate) partition: Partition,
    hold_up: Duration,
    /// Whose turn it is, and when the last envelope left. Held while a lane waits for its turn.
    turn: Mutex<Option<Instant>>,
    bookings: Mutex<mpsc::Receiver<Entry>>,
    traffic: Arc<Traffic>,
    messages: Mutex<mpsc::Receiver<Parcel>>,
}

/// What lanes judge by whose turn it is.
#[derive(Debug, Default)]
struct Traffic {
    /// Envelopes that left and did not end.
    under_way: AtomicUsize,
    /// Bookings that did not leave.
    unsent: AtomicUsize,
    /// An envelope ended, or there are bookings for another full one.
    changed: Notify,
}

/// Bookings that leave together. Counts as under way until it is dropped.
pub(crate) struct Load {
    pub(crate) entries: Vec<Entry>,
    _under_way: Departed,
}

struct Departed(Arc<Traffic>);

impl Departed {
    fn now(traffic: &Arc<Traffic>) -> Self {
        traffic.under_way.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(traffic))
    }
}

impl Drop for Departed {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_one();
    }
}

/// Opens an empty backlog.
pub(crate) fn backlog(partition: Partition, waiting_max: usize) -> (Inlet, Backlog) {
    held_up(partition, waiting_max, HOLD_UP_MAX)
}

fn held_up(partition: Partition, waiting_max: usize, hold_up: Duration) -> (Inlet, Backlog) {
    let waiting_max = waiting_max.max(1);
    let (bookings, booking_receiver) = mpsc::channel(waiting_max);
    let (messages, message_receiver) = mpsc::channel(MESSAGES_WAITING_MAX);
    let traffic = Arc::<Traffic>::default();
    let inlet = Inlet {
        bookings,
        messages,
        waiting: Arc::default(),
        waiting_max,
        traffic: Arc::clone(&traffic),
    };
    let backlog = Backlog {
        partition,
        hold_up,
        turn: Mutex::new(None),
        bookings: Mutex::new(booking_receiver),
        traffic,
        messages: Mutex::new(message_receiver),
    };
    (inlet, backlog)
}

impl Inlet {
    /// Queues a booking, unless as many as may wait do: then `answer` is dropped.
    pub(crate) fn offer(&self, booking: Booking, answer: Answer) {
        let Some(place) = Place::take(&self.waiting, self.waiting_max) else { return };
        // Counted before it can be taken out.
        let unsent = self.traffic.unsent.fetch_add(1, Ordering::Relaxed) + 1;
        if self.bookings.try_send(Entry { booking, answer, _place: place }).is_err() {
            self.traffic.unsent.fetch_sub(1, Ordering::Relaxed);
        } else if unsent.is_multiple_of(BOOKINGS_PER_ENVELOPE_MAX) {
            self.traffic.changed.notify_one();
        }
    }

    /// Queues a message, unless as many as may wait do.
    pub(crate) fn offer_message(&self, message: Message) -> Option<oneshot::Receiver<()>> {
        let (confirmed, answered) = oneshot::channel();
        self.messages.try_send(Parcel { message, confirmed }).ok()?;
        Some(answered)
    }

    /// Counts the bookings that wait to be sent, confirmed or certified.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

impl Backlog {
    /// Waits for its turn and a booking, and takes what else is there, up to an envelope; empty once nobody
    /// can put in any more. Cancelling it loses nothing.
    ///
    /// It is a lane's turn when no envelope is under way, the last one has been for too long, or there are
    /// bookings for a full one: that costs what it costs, now or later, and a line that came about while the
    /// broker stood still leaves at once.
    pub(crate) async fn next_bookings(&self) -> Load {
        let mut last_left = self.turn.lock().await;
        while let Some(left) = *last_left
            && self.traffic.under_way.load(Ordering::Acquire) > 0
            && self.traffic.unsent.load(Ordering::Relaxed) < BOOKINGS_PER_ENVELOPE_MAX
        {
            tokio::select! {
                () = self.traffic.changed.notified() => {}
                () = sleep_until(left + self.hold_up) => break,
            }
        }
        let mut entries = Vec::new();
        let mut bookings = self.bookings.lock().await;
        bookings.recv_many(&mut entries, BOOKINGS_PER_ENVELOPE_MAX).await;
        self.traffic.unsent.fetch_sub(entries.len(), Ordering::Relaxed);
        *last_left = Some(Instant::now());
        Load { entries, _under_way: Departed::now(&self.traffic) }
    }

    /// Waits for a message; `None` once nobody can put in any more. Cancelling it loses nothing.
    pub(crate) async fn next_message(&self) -> Option<Parcel> {
        self.messages.lock().await.recv().await
    }

    /// Drops what waits, so that its callers know at once that nothing is certain. What a lane is
    /// about to take is left to the lane.
    pub(crate) fn drain(&self) {
        if let Ok(mut receiver) = self.bookings.try_lock() {
            while receiver.try_recv().is_ok() {
                self.traffic.unsent.fetch_sub(1, Ordering::Relaxed);
            }
        }
        if let Ok(mut receiver) = self.messages.try_lock() {
            while receiver.try_recv().is_ok() {}
        }
    }
}

/// One of the bounded places of a backlog, given back on drop.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(waiting: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let one_more = |n: usize| (n < max).then_some(n + 1);
        waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self(Arc::clone(waiting)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use booking::{Epoch, UnixMs};

    use super::*;

    const P: Partition = Partition::new(0);
    const NEVER: Duration = Duration::from_hours(1);

    fn booking(id: i64) -> Booking {
        let digest = booking::Digest::of_key("k");
        Booking {
            id: id.into(),
            epoch: Epoch(1),
            slot: 256.into(),
            patient: 1.into(),
            account: 1.into(),
            key: digest,
            request: digest,
            accepted_at: UnixMs(0),
        }
    }

    fn put(inlet: &Inlet, id: i64) -> oneshot::Receiver<Published> {
        let (tell, told) = oneshot::channel();
        inlet.offer(
            booking(id),
            Box::new(|published| {
                let _ = tell.send(published);
            }),
        );
        told
    }

    fn ids(load: &Load) -> Vec<i64> {
        load.entries.iter().map(|entry| entry.booking.id.get()).collect()
    }

    #[tokio::test]
    async fn what_comes_while_an_envelope_is_under_way_leaves_together_when_it_ended() {
        let (inlet, backlog) = held_up(P, 100, NEVER);
        let _answers: Vec<_> = (1..=3).map(|id| put(&inlet, id)).collect();
        let first = backlog.next_bookings().await;
        assert_eq!(ids(&first), [1, 2, 3], "with nothing under way at once");
        let mut next = std::pin::pin!(backlog.next_bookings());
        let _more: Vec<_> = (4..=5).map(|id| put(&inlet, id)).collect();
        assert!(futures::poll!(&mut next).is_pending());
        drop(first);
        assert_eq!(ids(&next.await), [4, 5]);
    }

    #[tokio::test]
    async fn a_full_envelope_waits_for_no_other() {
        let (inlet, backlog) = held_up(P, 1_000, NEVER);
        let _answer = put(&inlet, 0);
        let _under_way = backlog.next_bookings().await;
        for _ in 0..2 {
            let mut next = std::pin::pin!(backlog.next_bookings());
            let _answers: Vec<_> = (1..64).map(|id| put(&inlet, id)).collect();
            assert!(futures::poll!(&mut next).is_pending());
            let _last = put(&inlet, 64);
            match futures::poll!(&mut next) {
                Poll::Ready(load) => assert_eq!(load.entries.len(), BOOKINGS_PER_ENVELOPE_MAX),
                Poll::Pending => panic!("it waits for the one under way"),
            }
        }
    }

    #[tokio::test]
    async fn what_was_dropped_fills_no_envelope() {
        let (inlet, backlog) = held_up(P, 1_000, NEVER);
        let _answer = put(&inlet, 0);
        let _under_way = backlog.next_bookings().await;
        let _answers: Vec<_> = (1..64).map(|id| put(&inlet, id)).collect();
        backlog.drain();
        let _answer = put(&inlet, 64);
        let mut next = std::pin::pin!(backlog.next_bookings());
        assert!(futures::poll!(&mut next).is_pending());
    }

    #[tokio::test]
    async fn an_envelope_that_is_under_way_for_long_holds_nobody_up() {
        let hold_up = Duration::from_millis(20);
        let (inlet, backlog) = held_up(P, 100, hold_up);
        let _answers = put(&inlet, 1);
        let began = Instant::now();
        let _first = backlog.next_bookings().await;
        let _more = put(&inlet, 2);
        let _second = backlog.next_bookings().await;
        let _more = put(&inlet, 3);
        assert_eq!(ids(&backlog.next_bookings().await), [3]);
        assert!(began.elapsed() >= hold_up * 2, "one after the other");
    }

    #[tokio::test]
    async fn who_waits_for_a_turn_is_dropped_with_the_rest() {
        let (inlet, backlog) = held_up(P, 100, NEVER);
        let _first = put(&inlet, 1);
        let _under_way = backlog.next_bookings().await;
        let second = put(&inlet, 2);
        let mut next = std::pin::pin!(backlog.next_bookings());
        assert!(futures::poll!(&mut next).is_pending());
        backlog.drain();
        assert!(second.await.is_err(), "its caller knows at once");
    }
}
