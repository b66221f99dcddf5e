//! The supervisor of the publishing connection: connect, declare, open the lanes, watch, and on
//! any fault drop everything and begin again, for ever.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::try_join_all;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backlog::Backlog;
use crate::fault::Fault;
use crate::lane::{Cargo, Lane, Road};
use crate::publisher::Certify;
use crate::settings::Settings;
use crate::topology::Topology;
use crate::wire::Dialer;

/// How often the state of a connection is looked at, besides what it tells by itself.
pub(crate) const WATCH_EVERY: Duration = Duration::from_millis(200);

/// The state of the connection that publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Publishing works.
    Up,
    /// No connection; being made again.
    Down,
    /// RabbitMQ takes nothing (`connection.blocked`).
    Blocked,
}

/// Keeps the publishing connection.
pub(crate) struct Supervisor {
    dialer: Arc<Dialer>,
    topology: Topology,
    backlogs: Vec<Arc<Backlog>>,
    lanes: usize,
    certify: Option<Certify>,
    confirm_timeout: Duration,
    link: watch::Sender<Link>,
    shutdown: CancellationToken,
}

impl Supervisor {
    pub(crate) fn new(
        settings: &Settings,
        backlogs: Vec<Backlog>,
        certify: Option<Certify>,
        link: watch::Sender<Link>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            dialer: Arc::new(Dialer::new(&settings.url, "slotrush publisher")),
            topology: Topology::of(settings),
            backlogs: backlogs.into_iter().map(Arc::new).collect(),
            lanes: settings.lanes.max(1),
            certify,
            confirm_timeout: settings.confirm_timeout(),
            link,
            shutdown,
        }
    }

    /// Connects again and again until shutdown, or until the last handle is gone.
    pub(crate) async fn run(self) {
        let mut log = LinkLog::new("publishing", self.dialer.server());
        loop {
            let connected = tokio::select! {
                road = self.connect() => road,
                () = self.over() => break,
            };
            let ended = match connected {
                Ok((road, lanes)) => {
                    log.up();
                    self.link.send_replace(Link::Up);
                    let ended = self.watch(&road, lanes).await;
                    self.link.send_replace(Link::Down);
                    road.wire.say_goodbye().await;
                    ended
                }
                Err(fault) => Err(fault),
            };
            self.backlogs.iter().for_each(|backlog| backlog.drain());
            match ended {
                Ok(()) => break,
                Err(fault) => log.down(&fault),
            }
            tokio::select! {
                () = pause() => {}
                () = self.over() => break,
            }
        }
        self.link.send_replace(Link::Down);
        self.backlogs.iter().for_each(|backlog| backlog.drain());
    }

    async fn connect(&self) -> Result<(Arc<Road>, Vec<(Cargo, Lane)>), Fault> {
        let wire = self.dialer.dial().await?;
        self.topology.declare(&self.dialer, &wire).await?;
        let road = Arc::new(Road {
            wire,
            dialer: Arc::clone(&self.dialer),
            topology: self.topology.clone(),
            certify: self.certify.clone(),
            link: self.link.subscribe(),
            confirm_timeout: self.confirm_timeout,
            finish: CancellationToken::new(),
        });
        let wanted = self.backlogs.iter().flat_map(|backlog| {
            let cargo = std::iter::repeat_n(Cargo::Bookings, self.lanes).chain([Cargo::Messages]);
            cargo.map(move |cargo| (cargo, Arc::clone(backlog)))
        });
        let lanes = try_join_all(wanted.map(async |(cargo, backlog)| {
            Ok::<_, Fault>((cargo, Lane::open(Arc::clone(&road), backlog).await?))
        }))
        .await?;
        Ok((road, lanes))
    }

    /// Runs the lanes until the connection is of no use any more, or all is done after a shutdown.
    async fn watch(&self, road: &Arc<Road>, lanes: Vec<(Cargo, Lane)>) -> Result<(), Fault> {
        let mut events = pin!(road.wire.events());
        let mut tick = tokio::time::interval(WATCH_EVERY);
        let mut running = JoinSet::new();
        for (cargo, lane) in lanes {
            running.spawn(lane.run(cargo));
        }
        loop {
            tokio::select! {
                ended = running.join_next() => match ended {
                    Some(Ok(Ok(()))) => {}
                    Some(Ok(Err(fault))) => return Err(fault),
                    Some(Err(_)) => return Err(Fault::LaneEnded),
                    None => return Ok(()),
                },
                _ = events.next() => {}
                _ = tick.tick() => {}
                () = self.shutdown.cancelled() => break,
            }
            if !road.wire.is_connected() {
                return Err(Fault::Broken);
            }
            self.note_blocked(road.wire.is_blocked());
        }
        road.finish.cancel();
        // What waits may take one confirm for each envelope; whoever waits gives up by itself.
        let finish = async { while running.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(self.confirm_timeout, finish).await;
        Ok(())
    }

    fn note_blocked(&self, blocked: bool) {
        let now = if blocked { Link::Blocked } else { Link::Up };
        if self.link.send_replace(now) == now {
            return;
        }
        if blocked {
            tracing::warn!(
                server = self.dialer.server(),
                "publishing connection blocked by RabbitMQ"
            );
            self.backlogs.iter().for_each(|backlog| backlog.drain());
        } else {
            tracing::info!(server = self.dialer.server(), "publishing connection free again");
        }
    }

    /// Waits until nothing is to be done any more: shut down, or nobody left who could hand in.
    async fn over(&self) {
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = self.link.closed() => {}
        }
    }
}

/// Waits before the next try: long enough to spare the server, short enough to be back within 2 s.
pub(crate) async fn pause() {
    let jitter = Duration::from_millis(rand::random_range(100..1000));
    tokio::time::sleep(jitter).await;
}

/// Says once, and only once, that a connection came or went.
pub(crate) struct LinkLog {
    purpose: &'static str,
    server: String,
    last: Option<Logged>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Logged {
    Up,
    Down,
    Refused,
}

impl LinkLog {
    pub(crate) fn new(purpose: &'static str, server: String) -> Self {
        Self { purpose, server, last: None }
    }

    pub(crate) fn up(&mut self) {
        let (purpose, server) = (self.purpose, self.server.as_str());
        if self.last.replace(Logged::Up) != Some(Logged::Up) {
            tracing::info!(purpose, server, "RabbitMQ connected");
        }
    }

    pub(crate) fn down(&mut self, fault: &Fault) {
        let (purpose, server) = (self.purpose, self.server.as_str());
        let now =
            if matches!(fault, Fault::Mismatch { .. }) { Logged::Refused } else { Logged::Down };
        if self.last.replace(now) == Some(now) {
            tracing::debug!(purpose, server, %fault, "RabbitMQ still not connected");
        } else if now == Logged::Refused {
            tracing::error!(purpose, server, %fault, "RabbitMQ refuses our queues");
        } else {
            tracing::warn!(purpose, server, %fault, "RabbitMQ connection lost");
        }
    }
}
