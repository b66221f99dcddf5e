//! The HTTP program: admission, status, accounts, administration. The only crate that speaks axum.
//!
//! Owns: the HTTP face and its limits, the way of a booking from the request to the queue, and what
//! a gateway remembers so that losers cost nothing.
//!
//! Must never know: SQL, Redis commands, AMQP. And the worker, but for the messages they share.
//!
//! Invariants: a booking id is minted before quota is touched; "queued" is said only after the
//! broker's confirm and a check of the epoch begun after it; quota is never given back on a guess;
//! what follows a hold is never cancelled; every queue, cache and wait is bounded.
//!
//! Read first: [`run`], then [`admission`], then [`status`].

pub mod admission;
pub mod app;
pub mod auth;
pub mod catalogue;
pub mod certify;
pub mod changes;
pub mod epochs;
pub mod extract;
pub mod fields;
pub mod header_number;
pub mod limits;
pub mod mint;
pub mod openapi;
pub mod page;
pub mod problem;
pub mod recent;
pub mod request_id;
pub mod routes;
pub mod server;
pub mod settings;
pub mod status;
pub mod tally;
pub mod unbroken;
pub mod violations;
pub mod words;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use booking::{Clock, PartitionCount, SystemClock, UnixMs};
use broker::{Link, Publisher};
use inventory::Inventory;
use jiff::tz::TimeZone;
use ledger::Ledger;
use service::Health;
use service::settings::{Addresses, Invalid};
use service::telemetry::Metrics;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::facts::FactsCache;
use crate::admission::looks;
use crate::admission::memory::Memory;
use crate::admission::offer::Offers;
use crate::admission::room::Room;
use crate::app::Shared;
use crate::auth::{Passwords, Patients, Sealer, Tokens};
use crate::catalogue::Catalogue;
use crate::changes::Changes;
use crate::epochs::Epochs;
use crate::limits::Limits;
use crate::mint::Minter;
use crate::settings::Roles;
use crate::status::progress::Progress;
use crate::status::rows::Rows;
use crate::status::waiters::Waiters;
use crate::tally::Waits;

pub use app::App;
pub use settings::Settings;

/// How long to wait before asking again for a server that is not there at the start.
const BOOT_RETRY: Duration = Duration::from_millis(500);
/// How long the port stays shut, connections waiting, until what admission must know is read; it
/// takes milliseconds. After that every answer says itself what is missing.
const FIRST_READ_MAX: Duration = Duration::from_secs(5);
const FIRST_READ_LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long the stop waits for bookings on their way, and for the lease to be given back.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Runs the gateway until shutdown: starts the handles, checks the database, leases a worker id,
/// serves; then drains, waits for bookings on their way, and gives the lease back.
pub async fn run(
    settings: Settings,
    listener: TcpListener,
    admin_listener: TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let addresses = settings.stores.addresses()?;
    let metrics = Metrics::install();
    violations::show();
    let links = CancellationToken::new();
    let app = start(settings, &addresses, &shutdown, &links)?;

    let health = readiness(&app);
    let measured = health.clone();
    let measuring = tokio::spawn(async move { measured.measure().await });
    let admin = CancellationToken::new();
    let admin_task =
        tokio::spawn(service::admin::serve(admin_listener, health.clone(), metrics, admin.clone()));

    let mut followers = begin(&app, &shutdown).await?;
    followers.push(measuring);
    let router = routes::service(&app);
    tracing::info!(address = %listener.local_addr()?, "serving");
    server::serve(listener, router, &app.settings.server, {
        let health = health.clone();
        let shutdown = shutdown.clone();
        let accepting = CancellationToken::new();
        let stop = accepting.clone();
        tokio::spawn(async move {
            shutdown.cancelled().await;
            health.stop();
            stop.cancel();
        });
        accepting
    })
    .await;

    app.tasks.close();
    if tokio::time::timeout(LAST_WAIT, app.tasks.wait()).await.is_err() {
        tracing::warn!(left = app.tasks.len(), "leaving bookings on their way to the relay");
    }
    followers.iter().for_each(tokio::task::JoinHandle::abort);
    if tokio::time::timeout(LAST_WAIT, app.minter.give_back()).await.is_err() {
        tracing::info!("the worker id's lease is left to run out");
    }
    links.cancel();
    admin.cancel();
    admin_task.await.context("the admin port failed")?;
    Ok(())
}

/// Starts the handles to the servers and puts together what handlers share. Waits for nobody.
pub fn start(
    settings: Settings,
    addresses: &Addresses,
    shutdown: &CancellationToken,
    links: &CancellationToken,
) -> anyhow::Result<App> {
    let partitions = settings.partitions()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ledger = Ledger::start(&settings.ledger(addresses))
        .map_err(|error| Invalid::new("SLOTRUSH_DATABASE_URL", error.to_string()))?;
    let inventory = Inventory::start(&settings.inventory(addresses))
        .map_err(|error| Invalid::new("SLOTRUSH_REDIS_URL", error.to_string()))?;
    let epochs = Arc::new(Epochs::default());
    let broker = settings.broker(addresses, partitions);
    let certify = certify::certify(
        ledger.clone(),
        Arc::clone(&epochs),
        settings.calls.epoch_check_timeout_ms,
        broker.lanes.saturating_mul(usize::from(partitions.get())),
    );
    let publisher = Publisher::start(&broker, Some(certify), links.clone());
    Ok(App::new(Shared {
        partitions,
        tokens: Tokens::load(&settings.auth)?,
        sealer: Sealer::load(&settings.auth)?,
        passwords: Passwords::new()?,
        patients: Patients::new(ledger.clone()),
        catalogue: Catalogue::default(),
        epochs,
        minter: Minter::new(ledger.clone(), Arc::clone(&clock)),
        memory: Memory::default(),
        facts: FactsCache::start(ledger.clone(), Arc::clone(&clock)),
        waits: Waits::default(),
        offers: Offers::new(ledger.clone()),
        room: Room::new(settings.calls.admissions_max),
        tasks: TaskTracker::new(),
        rows: Rows::start(ledger.clone()),
        changes: Changes::default(),
        waiters: Arc::new(Waiters::new(settings.calls.waiters_max)),
        progress: Progress::default(),
        limits: Arc::new(Limits::new(&settings.limits)),
        shutdown: shutdown.clone(),
        clock,
        ledger,
        inventory,
        publisher,
        settings,
    }))
}

/// Checks the database and starts everything that runs beside the requests; returns when bookings can be
/// answered, or after five seconds.
pub async fn begin(
    app: &App,
    shutdown: &CancellationToken,
) -> anyhow::Result<Vec<tokio::task::JoinHandle<()>>> {
    check_database(app, app.partitions, shutdown).await?;
    let followers = follow(app);
    until_it_can_answer(app, shutdown).await;
    Ok(followers)
}

fn readiness(app: &App) -> Health {
    let health = Health::default();
    let check = |name, is_ready: fn(&App) -> bool| {
        let app = app.clone();
        health.check(name, Arc::new(move || is_ready(&app)));
    };
    check("worker_id", |app| app.minter.is_ready());
    check("redis", |app| app.inventory.is_up());
    check("rabbitmq", |app| app.publisher.link() == Link::Up);
    check("postgresql", |app| app.epochs.is_ledger_up());
    check("epochs_read", |app| app.epochs.is_read());
    check("bookings_read", |app| app.memory.held.is_read());
    health
}

/// Brings the database up to date and, where roles are named, grants each what its program needs.
pub async fn migrate(settings: &Settings, roles: &Roles) -> anyhow::Result<()> {
    let ledger = Ledger::start(&settings.ledger_alone()?)?;
    ledger.migrate().await?;
    if let (Some(gateway), Some(worker)) = (&roles.gateway_role, &roles.worker_role) {
        ledger.grant(gateway, worker).await?;
    }
    Ok(())
}

/// Waits for PostgreSQL and makes sure the database is laid out for as many partitions.
async fn check_database(
    app: &App,
    partitions: PartitionCount,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let ledger = app.ledger.clone();
        // Not raced against the shutdown: a cancelled query would poison its connection.
        match tokio::spawn(async move { ledger.check_partitions(partitions).await }).await? {
            Ok(()) => return Ok(()),
            Err(ledger::Error::Refused { .. }) => {
                let problem = "the database is laid out for another number of partitions";
                return Err(Invalid::new("SLOTRUSH_PARTITIONS", problem).into());
            }
            Err(error) if shutdown.is_cancelled() => return Err(error.into()),
            Err(error) => tracing::warn!(%error, "waiting for PostgreSQL"),
        }
        tokio::time::sleep(BOOT_RETRY).await;
    }
}

/// Waits until the epochs and the bookings are read and a worker id is leased. Who asks before that,
/// at a gateway that came back in the middle of a rush, would hear 503 though nothing is wrong.
async fn until_it_can_answer(app: &App, shutdown: &CancellationToken) {
    let is_read = || app.epochs.is_read() && app.memory.held.is_read() && app.minter.is_ready();
    let all_read = async {
        while !is_read() {
            tokio::time::sleep(FIRST_READ_LOOK_EVERY).await;
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(FIRST_READ_MAX, all_read) => {}
        () = shutdown.cancelled() => {}
    }
}

/// Starts everything that runs beside the requests.
fn follow(app: &App) -> Vec<tokio::task::JoinHandle<()>> {
    let spawn = |task: futures::future::BoxFuture<'static, ()>| tokio::spawn(task);
    let with = || app.clone();
    vec![
        spawn({
            let app = with();
            Box::pin(async move { app.epochs.watch(&app.ledger).await })
        }),
        spawn({
            let app = with();
            Box::pin(async move { app.minter.keep_lease().await })
        }),
        spawn({
            let app = with();
            Box::pin(async move {
                app.changes.follow(&app.ledger, &app.memory, &app.waiters, &*app.clock).await;
            })
        }),
        spawn({
            let app = with();
            Box::pin(async move { looks::follow(&app).await })
        }),
        spawn({
            let app = with();
            Box::pin(async move { status::promises::follow(&app).await })
        }),
        spawn({
            let app = with();
            Box::pin(async move { app.progress.sample(&app.inventory).await })
        }),
        spawn({
            let app = with();
            Box::pin(async move { app.limits.sweep().await })
        }),
    ]
}

/// Writes an instant as RFC 3339 with the offset of `zone`, to the millisecond.
pub fn time_text(at: UnixMs, zone: &TimeZone) -> String {
    let instant = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    instant.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_carries_the_hospitals_offset() {
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        assert_eq!(time_text(UnixMs(0), &zone), "1970-01-01T08:00:00.000+08:00");
    }
}
