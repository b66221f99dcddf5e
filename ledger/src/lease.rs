//! Leased numbers: snowflake worker ids and who reconciles.
//!
//! Leases are judged by the database's clock alone. A worker id's row is never deleted: its end
//! is the floor of the ids its next holder may mint.

use booking::UnixMs;
use booking::snowflake::WorkerId;

use crate::column;
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
    pub async fn lease_worker_id(
        &self,
        holder: &str,
        ttl_ms: u32,
    ) -> Result<Option<WorkerLease>, Error> {
        let holder = holder.to_owned();
        let leased: Option<(i16, i64)> = self
            .run(move |pool| async move {
                sqlx::query_as("SELECT number, floor_ms FROM lease_worker_id($1, $2)")
                    .bind(holder)
                    .bind(i64::from(ttl_ms))
                    .fetch_optional(&pool)
                    .await
            })
            .await?;
        leased
            .map(|(number, floor_ms)| {
                let number = u8::try_from(number)
                    .map_err(|_| column::unreadable("a worker id is a byte"))?;
                Ok(WorkerLease { worker: WorkerId::new(number), floor: UnixMs(floor_ms), ttl_ms })
            })
            .transpose()
    }

    /// Renews; false if the lease is lost.
    pub async fn renew_worker_id(
        &self,
        worker: WorkerId,
        holder: &str,
        ttl_ms: u32,
    ) -> Result<bool, Error> {
        let holder = holder.to_owned();
        self.run(move |pool| async move {
            let renewed = sqlx::query(
                "UPDATE lease
                 SET expires_at = greatest(
                     expires_at, clock_timestamp() + $3 * interval '1 millisecond')
                 WHERE kind = 'worker_id'
                   AND number = $1
                   AND holder = $2
                   AND expires_at > clock_timestamp()",
            )
            .bind(i16::from(worker.get()))
            .bind(holder)
            .bind(i64::from(ttl_ms))
            .execute(&pool)
            .await?;
            Ok(renewed.rows_affected() == 1)
        })
        .await
    }

    /// Gives a worker id back (its floor stays).
    ///
    /// The lease ends five seconds from now, not at once: an id may be that far ahead of the
    /// database's clock, and the floor must lie above it.
    pub async fn release_worker_id(&self, worker: WorkerId, holder: &str) -> Result<(), Error> {
        let holder = holder.to_owned();
        self.run(move |pool| async move {
            sqlx::query(
                "UPDATE lease
                 SET expires_at = least(expires_at, clock_timestamp() + $3 * interval '1 millisecond')
                 WHERE kind = 'worker_id'
                   AND number = $1
                   AND holder = $2",
            )
            .bind(i16::from(worker.get()))
            .bind(holder)
            .bind(booking::snowflake::CLOCK_STEP_MAX_MS)
            .execute(&pool)
            .await?;
            Ok(())
        })
        .await
    }

    /// Takes or renews the reconciler's lease; false while another holds it.
    pub async fn lead_reconciler(&self, holder: &str, ttl_ms: u32) -> Result<bool, Error> {
        let holder = holder.to_owned();
        self.run(move |pool| async move {
            let leads = sqlx::query(
                "INSERT INTO lease AS held (kind, number, holder, expires_at)
                 VALUES ('reconciler', 0, $1, clock_timestamp() + $2 * interval '1 millisecond')
                 ON CONFLICT (kind, number) DO UPDATE
                 SET holder = excluded.holder, expires_at = excluded.expires_at
                 WHERE held.holder = excluded.holder OR held.expires_at <= clock_timestamp()",
            )
            .bind(holder)
            .bind(i64::from(ttl_ms))
            .execute(&pool)
            .await?;
            Ok(leads.rows_affected() == 1)
        })
        .await
    }
}
