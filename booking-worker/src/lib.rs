//! The consumer program: persists bookings, relays, reconciles.
//!
//! Owns: what happens to a booking after the gateway published it, and where quota lies. It is the
//! only program that needs Redis, RabbitMQ and PostgreSQL together off the hot path.
//!
//! Must never know: HTTP, accounts, SQL, Lua, AMQP frames.
//!
//! Invariants: an envelope is acknowledged only when every booking of it has its row or is parked;
//! nothing is deleted from an outbox without a row; every step of the reconciler may be repeated,
//! interrupted, and run by two at once.
//!
//! Read first: [`consume`], then [`relay`], then [`reconcile`].

pub mod audit;
pub mod consume;
mod fault;
mod fronts;
mod probe;
pub mod reconcile;
pub mod relay;
pub mod settings;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use booking::{Clock, PartitionCount, SystemClock};
use broker::Publisher;
use inventory::Inventory;
use ledger::Ledger;
use service::Health;
use service::telemetry::Metrics;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use fronts::Fronts;
pub use settings::{Role, Settings};

/// How long a stop may take before what is left is dropped. Nothing is lost by it: what was not
/// acknowledged is delivered again.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// What every role works on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Servers {
    /// PostgreSQL.
    pub ledger: Ledger,
    /// Redis.
    pub inventory: Inventory,
    /// RabbitMQ, to publish.
    pub publisher: Publisher,
    /// RabbitMQ, to consume and to ask.
    pub broker: broker::Settings,
    /// How far the queues have moved, as seen here.
    pub fronts: Arc<Fronts>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

impl Servers {
    /// Returns how many partitions there are.
    pub const fn partitions(&self) -> PartitionCount {
        self.broker.partitions
    }
}

/// Runs the worker until `shutdown`, with its admin port on `admin`.
///
/// Boots in this order: settings, admin port, handles, the partition check, then the roles. Servers
/// that are not there yet are waited for; `/readyz` names them.
pub async fn run(
    settings: &Settings,
    admin: TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let checked = settings.check()?;
    let health = Health::default();
    // Cancelled last: a stopping role may still publish and its readiness be asked.
    let ports = CancellationToken::new();
    let tasks = TaskTracker::new();
    let _guard = ports.clone().drop_guard();
    tokio::spawn(service::admin::serve(admin, health.clone(), Metrics::install(), ports.clone()));

    let broker = settings.broker(&checked);
    let servers = Servers {
        ledger: Ledger::start(&settings.ledger(&checked)).context("SLOTRUSH_DATABASE_URL")?,
        inventory: Inventory::start(&Settings::inventory(&checked))
            .context("SLOTRUSH_REDIS_URL")?,
        publisher: Publisher::start(&broker, None, ports.clone()),
        broker,
        fronts: Arc::default(),
        clock: Arc::new(SystemClock),
    };
    probe::watch(&servers, &health, &tasks, &shutdown);
    if !probe::check_partitions(&servers, &shutdown).await? {
        return Ok(());
    }
    tracing::info!(roles = ?checked.roles, partitions = checked.partitions.get(), "running");
    for role in &checked.roles {
        match role {
            Role::Consume => consume::spawn(&servers, &tasks, &shutdown),
            Role::Relay => relay::spawn(&servers, settings, &tasks, &shutdown),
            Role::Reconcile => reconcile::spawn(&servers, settings, &tasks, &shutdown),
        }
    }
    shutdown.cancelled().await;
    health.stop();
    tasks.close();
    if tokio::time::timeout(STOP_WITHIN, tasks.wait()).await.is_err() {
        tracing::warn!(left = tasks.len(), "not everything stopped in time");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Waits, but no longer than until the stop; false if it stopped.
pub(crate) async fn pause(shutdown: &CancellationToken, duration: Duration) -> bool {
    tokio::select! {
        () = shutdown.cancelled() => false,
        () = tokio::time::sleep(duration) => true,
    }
}
