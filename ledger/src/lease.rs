//! Leased numbers: snowflake worker ids and who reconciles.
use booking::UnixMs;
use booking::snowflake::WorkerId;
use crate::{Error, Ledger};
/// A leased snowflake worker id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerLease {
    /// The number.
    pub worker: WorkerId,
    /// The latest time a former holder may have put in an id, by the database's clock.
    pub floor: UnixMs,
    /// How long the lease lasts from the moment of the request, in ms.
    pub ttl_ms: u32,
}
impl Ledger {
    /// Leases a free worker id; `None` if all 256 are held.
    pub async fn lease_worker_id(&self, holder: &str, ttl_ms: u32) -> Result<Option<WorkerLease>, Error> { unimplemented!() }
    /// Renews; false if the lease is lost.
    pub async fn renew_worker_id(&self, worker: WorkerId, holder: &str, ttl_ms: u32) -> Result<bool, Error> { unimplemented!() }
    /// Gives a worker id back (its floor stays).
    pub async fn release_worker_id(&self, worker: WorkerId, holder: &str) -> Result<(), Error> { unimplemented!() }
    /// Takes or renews the reconciler's lease; false while another holds it.
    pub async fn lead_reconciler(&self, holder: &str, ttl_ms: u32) -> Result<bool, Error> { unimplemented!() }
}
