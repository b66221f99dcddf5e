//! Booking ids under a leased worker id: taking, keeping and giving back the lease.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use booking::snowflake::{Mint, Minted, WorkerId};
use booking::{BookingId, Clock, Partition, UnixMs};
use ledger::Ledger;

/// How long a lease lasts (ms).
const TTL_MS: u32 = 30_000;
/// How much earlier than the database this side takes the lease to end (ms): two clocks run apart.
const MARGIN_MS: i64 = 5_000;
/// Often, because nothing can be booked without a lease, and asking a PostgreSQL that is silent costs nothing.
const RETRY_EVERY: Duration = Duration::from_millis(200);
/// A mint asks to wait when a millisecond's ids are used up, or for a clock's small step back.
const WAITS_MAX: u32 = 3;
const WAIT_MS_MAX: u64 = 50;

/// Mints booking ids while this program holds a worker id.
#[derive(Debug)]
pub struct Minter {
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    holder: String,
    lease: RwLock<Option<(WorkerId, Arc<Mint>)>>,
    /// The last try failed, and that was said.
    is_failing: AtomicBool,
}

impl Minter {
    /// Starts without a lease; mints nothing until [`Minter::keep_lease`] has one.
    pub fn new(ledger: Ledger, clock: Arc<dyn Clock>) -> Self {
        let holder = format!("gateway-{:032x}", rand::random::<u128>());
        Self { ledger, clock, holder, lease: RwLock::new(None), is_failing: AtomicBool::new(false) }
    }

    /// Tells whether ids can be minted now.
    pub fn is_ready(&self) -> bool {
        self.lease.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Mints an id; `None` without a lease, or when the clock is not to be trusted.
    pub async fn mint(&self, partition: Partition) -> Option<BookingId> {
        let lease = self.lease.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (_, mint) = lease?;
        for _ in 0..=WAITS_MAX {
            match mint.mint(partition) {
                Minted::Id(id) => return Some(id),
                Minted::Wait { ms } if ms <= WAIT_MS_MAX => {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                }
                Minted::Wait { .. } | Minted::Refused => return None,
            }
        }
        None
    }

    /// Takes a worker id and keeps it, for ever: renews at a third of its time, takes another if lost.
    pub async fn keep_lease(&self) {
        let third = Duration::from_millis(u64::from(TTL_MS / 3));
        loop {
            let held = self.lease.read().unwrap_or_else(PoisonError::into_inner).clone();
            let wait = match held {
                None if self.take().await => third,
                None => RETRY_EVERY,
                Some((worker, mint)) => self.renew(worker, &mint, third).await,
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Gives the worker id back. Nothing is minted after.
    pub async fn give_back(&self) {
        let held = self.lease.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some((worker, mint)) = held else { return };
        // Requests that still hold the mint get nothing from it from here on.
        mint.set_leased_until(UnixMs(0));
        if let Err(error) = self.ledger.release_worker_id(worker, &self.holder).await {
            tracing::info!(%error, "the worker id's lease is left to run out");
        }
    }

    async fn take(&self) -> bool {
        let asked_at = self.clock.now();
        match self.ledger.lease_worker_id(&self.holder, TTL_MS).await {
            Ok(Some(lease)) => {
                self.is_failing.store(false, Ordering::Relaxed);
                let until = end_of_lease(asked_at);
                let mint = Mint::new(lease.worker, lease.floor, until, Arc::clone(&self.clock));
                let held = Some((lease.worker, Arc::new(mint)));
                *self.lease.write().unwrap_or_else(PoisonError::into_inner) = held;
                tracing::info!(worker = lease.worker.get(), "leased a worker id");
                true
            }
            Ok(None) => {
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!("all worker ids are leased");
                }
                false
            }
            Err(error) => {
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "no worker id could be leased");
                }
                false
            }
        }
    }

    async fn renew(&self, worker: WorkerId, mint: &Mint, third: Duration) -> Duration {
        let asked_at = self.clock.now();
        match self.ledger.renew_worker_id(worker, &self.holder, TTL_MS).await {
            Ok(true) => {
                self.is_failing.store(false, Ordering::Relaxed);
                mint.set_leased_until(end_of_lease(asked_at));
                third
            }
            Ok(false) => {
                tracing::warn!(worker = worker.get(), "the lease of the worker id was lost");
                mint.set_leased_until(UnixMs(0));
                *self.lease.write().unwrap_or_else(PoisonError::into_inner) = None;
                Duration::ZERO
            }
            Err(error) => {
                // The lease still holds; the mint itself stops when it ends.
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "the lease of the worker id was not renewed");
                }
                RETRY_EVERY
            }
        }
    }
}

fn end_of_lease(asked_at: UnixMs) -> UnixMs {
    asked_at.plus_ms(i64::from(TTL_MS) - MARGIN_MS)
}
