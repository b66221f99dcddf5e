//! A lane: one confirming channel of a partition, with at most one message under way.
//!
//! Self-clocking: with no envelope under way what is there is sent at once; while a confirm is awaited, what
//! arrives gathers for the next envelope. If that takes long, or is a full envelope, another lane goes ahead
//! with it: a broker that stands still for a moment is then behind by little. The envelope is the unit of
//! certainty.

use std::sync::Arc;
use std::time::Duration;

use booking::message::Message;
use booking::{Envelope, Partition};
use lapin::Channel;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::backlog::{Backlog, Entry};
use crate::courier::{Doubt, deliver};
use crate::fault::Fault;
use crate::link::Link;
use crate::publisher::{Certify, Published};
use crate::topology::Topology;
use crate::wire::{Dialer, Wire};

/// What a lane carries.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cargo {
    Bookings,
    Messages,
}

/// What all lanes of a connection share.
pub(crate) struct Road {
    pub(crate) wire: Wire,
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) topology: Topology,
    pub(crate) certify: Option<Certify>,
    pub(crate) link: watch::Receiver<Link>,
    pub(crate) confirm_timeout: Duration,
    /// Ends the lanes once nothing waits that is theirs to take: the rest is left to whoever has an envelope
    /// under way.
    pub(crate) finish: CancellationToken,
}

/// One channel and where its messages come from.
pub(crate) struct Lane {
    road: Arc<Road>,
    backlog: Arc<Backlog>,
    channel: Channel,
}

impl Lane {
    pub(crate) async fn open(road: Arc<Road>, backlog: Arc<Backlog>) -> Result<Self, Fault> {
        let channel = road.wire.confirming_channel().await?;
        Ok(Self { road, backlog, channel })
    }

    /// Carries until told to finish; a fault means that the connection is of no use any more.
    pub(crate) async fn run(mut self, cargo: Cargo) -> Result<(), Fault> {
        loop {
            let doubt = match cargo {
                Cargo::Bookings => self.carry_bookings().await,
                Cargo::Messages => self.carry_message().await,
            };
            match doubt {
                Err(Finished) => return Ok(()),
                Ok(Ok(())) => {}
                Ok(Err(doubt)) => self.replace_channel(&doubt).await?,
            }
        }
    }

    async fn carry_bookings(&self) -> Result<Result<(), Doubt>, Finished> {
        let load = tokio::select! {
            biased;
            load = self.backlog.next_bookings() => load,
            () = self.road.finish.cancelled() => return Err(Finished),
        };
        let entries = load.entries;
        if entries.is_empty() {
            return Err(Finished);
        }
        if *self.road.link.borrow() != Link::Up {
            return Ok(Ok(()));
        }
        let bookings = entries.iter().map(|entry| entry.booking.clone()).collect();
        let envelope = Message::Envelope(Envelope::new(bookings));
        let mut delivered = self.deliver(&envelope).await;
        if delivered.is_ok() && failpoint::chance!("publish.twice") {
            delivered = self.deliver(&envelope).await;
        }
        if delivered.is_ok() {
            answer(self.backlog.partition, entries, self.road.certify.as_ref());
        }
        Ok(delivered)
    }

    async fn carry_message(&self) -> Result<Result<(), Doubt>, Finished> {
        let parcel = tokio::select! {
            biased;
            parcel = self.backlog.next_message() => parcel.ok_or(Finished)?,
            () = self.road.finish.cancelled() => return Err(Finished),
        };
        if *self.road.link.borrow() != Link::Up {
            return Ok(Ok(()));
        }
        let delivered = self.deliver(&parcel.message).await;
        if delivered.is_ok() {
            // A caller that left needs no answer.
            let _ = parcel.confirmed.send(());
        }
        Ok(delivered)
    }

    async fn deliver(&self, message: &Message) -> Result<(), Doubt> {
        let Road { topology, confirm_timeout, .. } = &*self.road;
        deliver(&self.channel, topology, self.backlog.partition, message, *confirm_timeout).await
    }

    /// Opens a new channel: after an unknown outcome the old one is never used again.
    async fn replace_channel(&mut self, doubt: &Doubt) -> Result<(), Fault> {
        tracing::debug!(partition = %self.backlog.partition, %doubt, "publish outcome unknown");
        // A blocked connection carries nothing, so nothing can be opened before it is free again.
        let mut link = self.road.link.clone();
        link.wait_for(|link| *link != Link::Blocked).await.map_err(|_| Fault::Broken)?;
        if matches!(doubt, Doubt::Returned | Doubt::Broken(_)) {
            let Road { topology, dialer, wire, .. } = &*self.road;
            topology.declare_one(self.backlog.partition, dialer, wire).await?;
        }
        self.channel = self.road.wire.confirming_channel().await?;
        Ok(())
    }
}

/// Nothing waits and nothing more will come.
struct Finished;

/// G3: asks once for the envelope, now that it is confirmed, and answers every booking in it. The
/// lane goes on meanwhile.
fn answer(partition: Partition, entries: Vec<Entry>, certify: Option<&Certify>) {
    let Some(certify) = certify else {
        for entry in entries {
            (entry.answer)(Published::Certain);
        }
        return;
    };
    let epochs = entries.iter().map(|entry| (partition, entry.booking.epoch)).collect();
    let certified = certify(epochs);
    // Not awaited under a bound here: whoever certifies may hold a database connection that must
    // not be dropped half-way. The callers have their own bound.
    tokio::spawn(async move {
        let verdicts = certified.await;
        let fit = verdicts.len() == entries.len();
        for (entry, certain) in entries.into_iter().zip(verdicts) {
            let published = if fit && certain { Published::Certain } else { Published::Uncertain };
            (entry.answer)(published);
        }
    });
}
