//! Whether the servers are there: readiness, and the check that comes before all work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::bail;
use broker::Link;
use service::Health;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::fault::Fault;
use crate::{Servers, pause};

const PING_EVERY: Duration = Duration::from_secs(1);
/// How many times a schema that is not as expected is looked at again: a migration may be under way.
const SCHEMA_TRIES: u32 = 30;

/// Follows the three servers for `/readyz`.
pub(crate) fn watch(
    servers: &Servers,
    health: &Health,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) {
    let is_up = Arc::new(AtomicBool::new(false));
    let (seen, redis) = (Arc::clone(&is_up), servers.inventory.clone());
    let publisher = servers.publisher.clone();
    health.check("postgresql", Arc::new(move || seen.load(Ordering::Relaxed)));
    health.check("redis", Arc::new(move || redis.is_up()));
    health.check("rabbitmq", Arc::new(move || publisher.link() == Link::Up));
    let (measured, stop) = (health.clone(), shutdown.clone());
    tasks.spawn(async move {
        // Of a program that stops nothing is measured any more.
        let _ = stop.run_until_cancelled(measured.measure()).await;
    });
    let (ledger, shutdown) = (servers.ledger.clone(), shutdown.clone());
    tasks.spawn(async move {
        let mut fault = Fault::of("PostgreSQL");
        loop {
            is_up.store(fault.note(ledger.ping().await).is_some(), Ordering::Relaxed);
            if !pause(&shutdown, PING_EVERY).await {
                break;
            }
        }
    });
}

/// Waits for PostgreSQL and makes sure that it is laid out for as many partitions as this process;
/// false if the stop came first.
pub(crate) async fn check_partitions(
    servers: &Servers,
    shutdown: &CancellationToken,
) -> anyhow::Result<bool> {
    let count = servers.partitions();
    let mut tries = 0;
    loop {
        match servers.ledger.check_partitions(count).await {
            Ok(()) => return Ok(true),
            Err(ledger::Error::Refused { .. }) => bail!(
                "SLOTRUSH_PARTITIONS: this database is laid out for another number than {}",
                count.get()
            ),
            Err(ledger::Error::Unavailable(_) | ledger::Error::Contended) => {}
            Err(error @ ledger::Error::Unexpected(_)) => {
                tries += 1;
                if tries >= SCHEMA_TRIES {
                    return Err(anyhow::Error::new(error).context("is the database migrated?"));
                }
            }
        }
        if !pause(shutdown, PING_EVERY).await {
            return Ok(false);
        }
    }
}
