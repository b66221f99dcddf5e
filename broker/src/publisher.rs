//! The publisher's face: hand in a booking, learn what is known of it.

use std::sync::Arc;
use std::time::Duration;

use booking::message::Message;
use booking::{Booking, Epoch, Partition};
use futures::future::BoxFuture;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::Unknown;
use crate::backlog::{Inlet, backlog};
use crate::link::{Link, Supervisor};
use crate::settings::Settings;

/// What a certification may take on top of the confirm. Whoever certifies has a tighter bound of
/// its own; this one only keeps a caller from waiting on a broken one.
const CERTIFY_MAX: Duration = Duration::from_secs(1);

/// What is known of a published booking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// Confirmed, and certified after the confirm.
    Certain,
    /// Anything else: late, nacked, returned, blocked, cut, or not certified. It may be in the queue.
    Uncertain,
}

/// G3: asked once per confirmed envelope, after the confirm; answers for each booking's epoch, in order.
pub type Certify =
    Arc<dyn Fn(Vec<(Partition, Epoch)>) -> BoxFuture<'static, Vec<bool>> + Send + Sync>;

/// Publishes bookings in envelopes. Cheap to clone; its connection ends with the last clone.
#[derive(Clone, Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inlets: Vec<Inlet>,
    link: watch::Receiver<Link>,
    shutdown: CancellationToken,
    confirm_timeout: Duration,
}

impl Publisher {
    /// Starts the supervised connection and returns at once. `certify` is `None` where nobody is
    /// told "queued"; there a confirm alone makes a booking [`Published::Certain`].
    ///
    /// After `shutdown` nothing more is taken; what waits is still sent, within the confirm timeout.
    pub fn start(
        settings: &Settings,
        certify: Option<Certify>,
        shutdown: CancellationToken,
    ) -> Self {
        let open = |partition| backlog(partition, settings.waiting_max);
        let (inlets, backlogs) = settings.partitions.all().map(open).unzip();
        let (link_sender, link) = watch::channel(Link::Down);
        let supervisor =
            Supervisor::new(settings, backlogs, certify, link_sender, shutdown.clone());
        tokio::spawn(supervisor.run());
        let confirm_timeout = settings.confirm_timeout();
        Self { shared: Arc::new(Shared { inlets, link, shutdown, confirm_timeout }) }
    }

    /// Returns the state of the connection.
    pub fn link(&self) -> Link {
        *self.shared.link.borrow()
    }

    /// Waits for the link to be up. After a shutdown it never is.
    pub async fn wait_up(&self) {
        let mut link = self.shared.link.clone();
        if link.wait_for(|link| *link == Link::Up).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Sends a booking in the next envelope of its partition and waits for what is known of it.
    /// Never hangs longer than the confirm timeout and the certification. A caller that vanishes
    /// changes nothing: the booking is sent.
    pub async fn publish(&self, partition: Partition, booking: Booking) -> Published {
        let (tell, told) = oneshot::channel();
        self.publish_then(partition, booking, |published| {
            let _ = tell.send(published);
        });
        match tokio::time::timeout(self.answers_within(), told).await {
            Ok(Ok(published)) => published,
            Ok(Err(_)) | Err(_) => Published::Uncertain,
        }
    }

    /// As [`Self::publish`], for who needs not be there: `then` is called with what is known. Dropped uncalled,
    /// or not called within [`Self::answers_within`], it is [`Published::Uncertain`].
    pub fn publish_then(
        &self,
        partition: Partition,
        booking: Booking,
        then: impl FnOnce(Published) + Send + 'static,
    ) {
        if let Some(inlet) = self.inlet(partition) {
            inlet.offer(booking, Box::new(then));
        }
    }

    /// Returns how long to wait for what is known of a booking.
    pub fn answers_within(&self) -> Duration {
        self.shared.confirm_timeout + CERTIFY_MAX
    }

    /// Sends one message (a barrier, or the relay's envelope) and waits for its confirm.
    pub async fn send(&self, partition: Partition, message: &Message) -> Result<(), Unknown> {
        let offered = self.inlet(partition).and_then(|inlet| inlet.offer_message(message.clone()));
        let answered = offered.ok_or(Unknown)?;
        match tokio::time::timeout(self.shared.confirm_timeout, answered).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Unknown),
        }
    }

    /// Returns how many bookings wait to be sent, confirmed or certified in a partition.
    pub fn waiting(&self, partition: Partition) -> usize {
        self.shared.inlets.get(usize::from(partition.get())).map_or(0, Inlet::waiting)
    }

    /// Returns where to put what goes to a partition, if anything may be put there now.
    fn inlet(&self, partition: Partition) -> Option<&Inlet> {
        let open = self.link() == Link::Up && !self.shared.shutdown.is_cancelled();
        open.then(|| self.shared.inlets.get(usize::from(partition.get())))?
    }
}
