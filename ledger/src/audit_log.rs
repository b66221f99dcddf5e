//! Who did what to which. Only ever added to.

use booking::{AccountId, UnixMs};
use serde_json::Value;

use crate::{Error, Ledger};

/// An entry of the audit log.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// When.
    pub at: UnixMs,
    /// Who; `None` for the system itself.
    pub account: Option<AccountId>,
    /// What was done: a verb.
    pub action: String,
    /// To what kind of thing.
    pub subject: String,
    /// To which.
    pub subject_id: i64,
    /// More, without personal data.
    pub detail: Value,
}

impl Ledger {
    /// Notes an act whose effect is another statement's. Call it before the act: a note of
    /// something that then failed is harmless, an act without a note is not.
    pub async fn note(
        &self,
        actor: AccountId,
        action: &'static str,
        subject: &'static str,
        subject_id: i64,
    ) -> Result<(), Error> {
        self.run(move |pool| async move {
            sqlx::query(NOTE)
                .bind(actor.get())
                .bind(action)
                .bind(subject)
                .bind(subject_id)
                .execute(&pool)
                .await
        })
        .await
        .map(|_| ())
    }

    /// Returns what was done to one thing, latest first.
    pub async fn audit_log(
        &self,
        subject: &'static str,
        subject_id: i64,
        limit: u16,
    ) -> Result<Vec<AuditEntry>, Error> {
        type Row = (jiff_sqlx::Timestamp, Option<i64>, String, String, i64, Value);
        let rows: Vec<Row> = self
            .run(move |pool| async move {
                sqlx::query_as(AUDIT_LOG)
                    .bind(subject)
                    .bind(subject_id)
                    .bind(i32::from(limit))
                    .fetch_all(&pool)
                    .await
            })
            .await?;
        Ok(rows
            .into_iter()
            .map(|(at, account, action, subject, subject_id, detail)| AuditEntry {
                at: UnixMs(at.to_jiff().as_millisecond()),
                account: account.map(AccountId::from),
                action,
                subject,
                subject_id,
                detail,
            })
            .collect())
    }
}

const NOTE: &str = "
    INSERT INTO audit_log (account_id, action, subject, subject_id)
    VALUES ($1, $2, $3, $4)";

const AUDIT_LOG: &str = "
    SELECT at, account_id, action, subject, subject_id, detail
    FROM audit_log
    WHERE subject = $1
      AND subject_id = $2
    ORDER BY id DESC
    LIMIT $3";
