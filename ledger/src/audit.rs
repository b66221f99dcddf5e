//! The invariants that PostgreSQL alone can answer for, as queries that must find nothing.
//!
//! - **I1** a slot's live bookings are its `booked`, within its capacity;
//! - **I2** `booked + escrowed` is within the capacity, and `escrowed` is the sum over unclosed
//!   epochs of granted - consumed. With nothing open that is the accounting of I6: every place is
//!   booked or free;
//! - **I5** one row per id, one live booking per patient and session, one row that is not rejected
//!   per patient and key;
//! - **I6** a slot that has something to grant or to take back is noted, or nobody would look at it;
//! - **I9** consumed is within granted, and is the number of rows the epoch has for the slot, not
//!   counting those that used no quota (late, lapsed); an epoch is open at most once per partition;
//! - **N1** no number of a slot is given twice, or above what was issued.

use crate::{Error, Ledger};

/// The most violations one audit returns: a broken ledger must not fill memory or a log.
const VIOLATIONS_MAX: i64 = 1_000;

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name in the documents: `I1`, `I2` …
    pub invariant: &'static str,
    /// What was found, without personal data.
    pub detail: String,
}

impl Ledger {
    /// Checks I1, I2, I5, I9, I6's accounting and the numbers over the whole ledger, on one
    /// snapshot. Returns the first 1,000 violations.
    pub async fn audit(&self) -> Result<Vec<Violation>, Error> {
        let found: Vec<(String, String)> = self
            .run(|pool| async move {
                sqlx::query_as(
                    "SELECT invariant, detail FROM audit_ledger()
                     UNION ALL
                     SELECT invariant, detail FROM audit_uneven()
                     LIMIT $1",
                )
                .bind(VIOLATIONS_MAX)
                .fetch_all(&pool)
                .await
            })
            .await?;
        Ok(found
            .into_iter()
            .map(|(invariant, detail)| Violation { invariant: known(&invariant), detail })
            .collect())
    }
}

fn known(invariant: &str) -> &'static str {
    ["I1", "I2", "I5", "I6", "I9", "N1"]
        .into_iter()
        .find(|name| *name == invariant)
        .unwrap_or("unknown")
}
