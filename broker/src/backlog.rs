//! What waits to be sent in one partition: bookings, which travel in envelopes, and whole messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use booking::message::{BOOKINGS_PER_ENVELOPE_MAX, Message};
use booking::{Booking, Partition};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::publisher::Published;

/// Whole messages that may wait: barriers and relayed envelopes, whose senders wait for each.
const MESSAGES_WAITING_MAX: usize = 64;

/// A booking that waits. Dropped unanswered, it leaves its caller uncertain.
pub(crate) struct Entry {
    pub(crate) booking: Booking,
    pub(crate) answer: oneshot::Sender<Published>,
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
}

/// The side that takes out, shared by the partition's lanes.
pub(crate) struct Backlog {
    pub(crate) partition: Partition,
    bookings: Mutex<mpsc::Receiver<Entry>>,
    messages: Mutex<mpsc::Receiver<Parcel>>,
}

/// Opens an empty backlog.
pub(crate) fn backlog(partition: Partition, waiting_max: usize) -> (Inlet, Backlog) {
    let waiting_max = waiting_max.max(1);
    let (bookings, booking_receiver) = mpsc::channel(waiting_max);
    let (messages, message_receiver) = mpsc::channel(MESSAGES_WAITING_MAX);
    let inlet = Inlet { bookings, messages, waiting: Arc::default(), waiting_max };
    let backlog = Backlog {
        partition,
        bookings: Mutex::new(booking_receiver),
        messages: Mutex::new(message_receiver),
    };
    (inlet, backlog)
}

impl Inlet {
    /// Queues a booking, unless as many as may wait do.
    pub(crate) fn offer(&self, booking: Booking) -> Option<oneshot::Receiver<Published>> {
        let place = Place::take(&self.waiting, self.waiting_max)?;
        let (answer, answered) = oneshot::channel();
        self.bookings.try_send(Entry { booking, answer, _place: place }).ok()?;
        Some(answered)
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
    /// Waits for a booking and takes what else is there, up to an envelope; empty once nobody can
    /// put in any more. Cancelling it loses nothing.
    pub(crate) async fn next_bookings(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut receiver = self.bookings.lock().await;
        receiver.recv_many(&mut entries, BOOKINGS_PER_ENVELOPE_MAX).await;
        entries
    }

    /// Waits for a message; `None` once nobody can put in any more. Cancelling it loses nothing.
    pub(crate) async fn next_message(&self) -> Option<Parcel> {
        self.messages.lock().await.recv().await
    }

    /// Drops what waits, so that its callers know at once that nothing is certain. What a lane is
    /// about to take is left to the lane.
    pub(crate) fn drain(&self) {
        if let Ok(mut receiver) = self.bookings.try_lock() {
            while receiver.try_recv().is_ok() {}
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
