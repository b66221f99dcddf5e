//! Releases in time: preheating, ending, and the windows Redis is told.

use booking::{ReleaseId, UnixMs};

use crate::{Error, Ledger};

/// A release's window to be told to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseWindow {
    /// The release.
    pub release: ReleaseId,
    /// First instant of booking.
    pub opens_at: UnixMs,
    /// First instant after.
    pub closes_at: UnixMs,
    /// Held up by an admin.
    pub paused: bool,
    /// Counts changes.
    pub version: u64,
}
impl Ledger {
    /// Returns the windows of releases that are preheated, or were closed in the last hour.
    ///
    /// One closed before its time has a window that has ended by now.
    pub async fn windows(&self) -> Result<Vec<ReleaseWindow>, Error> {
        let rows: Vec<StoredWindow> = self
            .run(|pool| async move {
                sqlx::query_as(
                    "SELECT id, paused, version, unix_ms(opens_at) AS opens_ms,
                         unix_ms(CASE
                             WHEN state = 'closed' THEN least(closes_at, clock_timestamp())
                             ELSE closes_at END) AS closes_ms
                     FROM release
                     WHERE state = 'preheated'
                        OR (state = 'closed' AND closes_at > clock_timestamp() - interval '1 hour')
                     ORDER BY id",
                )
                .fetch_all(&pool)
                .await
            })
            .await?;
        Ok(rows.into_iter().map(StoredWindow::read).collect())
    }

    /// Preheats planned releases that open within `lead_ms` and ends those past `closes_at`; returns how many changed.
    pub async fn advance_releases(&self, lead_ms: i64) -> Result<u64, Error> {
        let changed: i64 = self
            .run_long(move |pool| async move {
                sqlx::query_scalar("SELECT advance_releases($1)")
                    .bind(lead_ms)
                    .fetch_one(&pool)
                    .await
            })
            .await?;
        Ok(changed.unsigned_abs())
    }
}

#[derive(sqlx::FromRow)]
struct StoredWindow {
    id: i64,
    opens_ms: i64,
    closes_ms: i64,
    paused: bool,
    version: i64,
}

impl StoredWindow {
    fn read(self) -> ReleaseWindow {
        ReleaseWindow {
            release: ReleaseId::from(self.id),
            opens_at: UnixMs(self.opens_ms),
            closes_at: UnixMs(self.closes_ms),
            paused: self.paused,
            version: self.version.unsigned_abs(),
        }
    }
}
