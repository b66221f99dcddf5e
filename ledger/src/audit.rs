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
//!
//! Each is a matter of one session's slots, of one id or of one patient's keys. So they are judged by
//! [`Part`]s, ranges of these: together they cover everything there can be, each is one statement
//! on one snapshot, and none takes longer when there is more of everything.

use crate::{Error, Ledger};

/// The most violations one audit returns: a broken ledger must not fill memory or a log.
const VIOLATIONS_MAX: usize = 1_000;
/// Rows of a part when everything is audited at once: few statements, each far below its timeout.
const ROWS_AT_ONCE: u32 = 20_000;

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name in the documents: `I1`, `I2` …
    pub invariant: &'static str,
    /// What was found, without personal data.
    pub detail: String,
}

/// Where an audit stands: what is judged next, and from which key on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The counts of slots, of their bookings and allotments, from this slot on, the first of its session.
    Counts(i64),
    /// Who is live in the sessions of slots, from this one on, the first of its session.
    Live(i64),
    /// The numbers given in slots, from this one on, the first of its session.
    Numbers(i64),
    /// Ids of bookings.
    Ids(i64),
    /// Keys of patients' bookings, by patient.
    Keys(i64),
    /// The epochs, all at once: few are not closed.
    Epochs,
}

impl Part {
    /// Where an audit begins.
    pub const FIRST: Self = Self::Counts(i64::MIN);

    const fn walk(self) -> (&'static str, i64) {
        match self {
            Self::Counts(first) => ("counts", first),
            Self::Live(first) => ("live", first),
            Self::Numbers(first) => ("numbers", first),
            Self::Ids(first) => ("ids", first),
            Self::Keys(first) => ("keys", first),
            Self::Epochs => ("epochs", i64::MIN),
        }
    }

    /// What comes after this part, which went up to `last`; `None` at the end.
    const fn after(self, last: i64) -> Option<Self> {
        match (self, last.checked_add(1)) {
            (Self::Counts(_), Some(next)) => Some(Self::Counts(next)),
            (Self::Counts(_), None) => Some(Self::Live(i64::MIN)),
            (Self::Live(_), Some(next)) => Some(Self::Live(next)),
            (Self::Live(_), None) => Some(Self::Numbers(i64::MIN)),
            (Self::Numbers(_), Some(next)) => Some(Self::Numbers(next)),
            (Self::Numbers(_), None) => Some(Self::Ids(i64::MIN)),
            (Self::Ids(_), Some(next)) => Some(Self::Ids(next)),
            (Self::Ids(_), None) => Some(Self::Keys(i64::MIN)),
            (Self::Keys(_), Some(next)) => Some(Self::Keys(next)),
            (Self::Keys(_), None) => Some(Self::Epochs),
            (Self::Epochs, _) => None,
        }
    }
}

/// What came of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// What it found, the first 1,000.
    pub violations: Vec<Violation>,
    /// What is to be judged next; `None` if that was the last part.
    pub next: Option<Part>,
}

impl Ledger {
    /// Checks I1, I2, I5, I9, I6's accounting and the numbers over the whole ledger, each slot,
    /// id and key on one snapshot. Returns the first 1,000 violations.
    pub async fn audit(&self) -> Result<Vec<Violation>, Error> {
        let (mut violations, mut next) = (Vec::new(), Some(Part::FIRST));
        while let Some(part) = next.filter(|_| violations.len() < VIOLATIONS_MAX) {
            let audited = self.audit_part(part, ROWS_AT_ONCE).await?;
            violations.extend(audited.violations);
            next = audited.next;
        }
        violations.truncate(VIOLATIONS_MAX);
        Ok(violations)
    }

    /// Checks one part of some `rows` rows, which is never less than all of a session's.
    pub async fn audit_part(&self, part: Part, rows: u32) -> Result<Audited, Error> {
        let (walk, first) = part.walk();
        let rows = i32::try_from(rows.max(1)).unwrap_or(i32::MAX);
        let limit = i64::try_from(VIOLATIONS_MAX).unwrap_or(i64::MAX);
        let last: i64 = self
            .run(move |pool| async move {
                sqlx::query_scalar("SELECT audit_last($1, $2, $3)")
                    .bind(walk)
                    .bind(first)
                    .bind(rows)
                    .fetch_one(&pool)
                    .await
            })
            .await?;
        let found: Vec<(String, String)> = self
            .run(move |pool| async move {
                sqlx::query_as("SELECT invariant, detail FROM audit_part($1, $2, $3) LIMIT $4")
                    .bind(walk)
                    .bind(first)
                    .bind(last)
                    .bind(limit)
                    .fetch_all(&pool)
                    .await
            })
            .await?;
        let violation =
            |(name, detail): (String, String)| Violation { invariant: known(&name), detail };
        let violations = found.into_iter().map(violation).collect();
        Ok(Audited { violations, next: part.after(last) })
    }
}

fn known(invariant: &str) -> &'static str {
    ["I1", "I2", "I5", "I6", "I9", "N1"]
        .into_iter()
        .find(|name| *name == invariant)
        .unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other_without_a_gap_to_the_end() {
        let mut part = Part::FIRST;
        for next in [
            (511, Part::Counts(512)),
            (i64::MAX, Part::Live(i64::MIN)),
            (255, Part::Live(256)),
            (i64::MAX, Part::Numbers(i64::MIN)),
            (767, Part::Numbers(768)),
            (i64::MAX, Part::Ids(i64::MIN)),
            (7, Part::Ids(8)),
            (i64::MAX, Part::Keys(i64::MIN)),
            (3, Part::Keys(4)),
            (i64::MAX, Part::Epochs),
        ] {
            assert_eq!(part.after(next.0), Some(next.1));
            part = next.1;
        }
        assert_eq!(part.after(i64::MAX), None);
    }
}
