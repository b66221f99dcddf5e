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

/// What came of preheating what was due.
#[derive(Debug, Default)]
pub struct Preheated {
    /// Releases that are preheated now.
    pub count: u64,
    /// The first that could not be, and why.
    pub stuck: Option<(ReleaseId, Error)>,
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

    /// Preheats planned releases that open within `lead_ms`, those that open first before others.
    ///
    /// Each by itself: where others hold the slots of one, the rest have their turn all the same.
    pub async fn preheat_due(&self, lead_ms: i64) -> Result<Preheated, Error> {
        let due: Vec<i64> = self
            .run(move |pool| async move {
                sqlx::query_scalar(
                    "SELECT id FROM release
                     WHERE state <> 'closed' -- release_unclosed_idx
                       AND release_is_due(state, opens_at, closes_at, $1)
                     ORDER BY opens_at, id",
                )
                .bind(lead_ms)
                .fetch_all(&pool)
                .await
            })
            .await?;
        let mut preheated = Preheated::default();
        for release in due {
            let error = match self.preheat(release, lead_ms).await {
                Ok(is_changed) => {
                    preheated.count += u64::from(is_changed);
                    continue;
                }
                Err(error) => error,
            };
            // Without PostgreSQL none of the others would fare better.
            let is_over = matches!(error, Error::Unavailable(_)) && !error.is_cut_off();
            preheated.stuck.get_or_insert((ReleaseId::from(release), error));
            if is_over {
                break;
            }
        }
        Ok(preheated)
    }

    async fn preheat(&self, release: i64, lead_ms: i64) -> Result<bool, Error> {
        self.run_long(move |pool| async move {
            sqlx::query_scalar("SELECT preheat_release($1, $2)")
                .bind(release)
                .bind(lead_ms)
                .fetch_one(&pool)
                .await
        })
        .await
    }

    /// Ends releases past `closes_at`, all together; returns how many there were.
    pub async fn end_releases(&self) -> Result<u64, Error> {
        let ended: i64 = self
            .run_long(|pool| async move {
                sqlx::query_scalar("SELECT end_releases()").fetch_one(&pool).await
            })
            .await?;
        Ok(ended.unsigned_abs())
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
