//! Accounts and their refresh tokens. Log-in names come in hashed and sealed, tokens hashed.

use booking::{AccountId, PatientId};
use serde::{Deserialize, Serialize};

use crate::{Error, Ledger};

/// What an account may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Books for its patients.
    Patient,
    /// Sees the lists of its sessions.
    Doctor,
    /// Administers.
    Admin,
}

impl Role {
    /// Returns the word stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Patient => "patient",
            Self::Doctor => "doctor",
            Self::Admin => "admin",
        }
    }

    /// Reads the stored word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Patient, Self::Doctor, Self::Admin].into_iter().find(|role| role.as_str() == word)
    }
}

/// An account to be made.
#[derive(Clone)]
pub struct NewAccount {
    /// Keyed hash of the log-in name.
    pub login_hash: Vec<u8>,
    /// The log-in name, encrypted.
    pub login_sealed: Vec<u8>,
    /// The password's hash in PHC form.
    pub password_hash: String,
    /// What it may do.
    pub role: Role,
}

/// The outcome of making an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// Made.
    Done(AccountId),
    /// The log-in name is another account's.
    LoginTaken,
}

/// What a log-in is judged by.
#[derive(Clone)]
pub struct Credentials {
    /// The account.
    pub account: AccountId,
    /// The password's hash in PHC form.
    pub password_hash: String,
    /// What it may do.
    pub role: Role,
    /// Whom it acts for.
    pub patients: Vec<PatientId>,
}

/// Who a token is issued to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The account.
    pub account: AccountId,
    /// What it may do.
    pub role: Role,
    /// Whom it acts for.
    pub patients: Vec<PatientId>,
}

/// The outcome of exchanging a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// Exchanged: the successor is valid.
    Done(Holder),
    /// It was exchanged before: its whole family has ended now.
    Reused,
    /// No such token, or expired, or of a family that ended.
    Unknown,
}

impl Ledger {
    /// Makes an account. With an `actor` the act is noted as theirs.
    pub async fn create_account(
        &self,
        actor: Option<AccountId>,
        new: NewAccount,
    ) -> Result<Registered, Error> {
        let made: Option<i64> = self
            .run(move |pool| async move {
                sqlx::query_scalar(CREATE_ACCOUNT)
                    .bind(new.login_hash)
                    .bind(new.login_sealed)
                    .bind(new.password_hash)
                    .bind(new.role.as_str())
                    .bind(actor.map(AccountId::get))
                    .fetch_optional(&pool)
                    .await
            })
            .await?;
        Ok(made.map_or(Registered::LoginTaken, |id| Registered::Done(AccountId::from(id))))
    }

    /// Finds an account by the keyed hash of its log-in name.
    pub async fn find_credentials(
        &self,
        login_hash: Vec<u8>,
    ) -> Result<Option<Credentials>, Error> {
        let row: Option<(i64, String, String, Vec<i64>)> = self
            .run(move |pool| async move {
                sqlx::query_as(FIND_CREDENTIALS).bind(login_hash).fetch_optional(&pool).await
            })
            .await?;
        row.map(|(account, password_hash, role, patients)| {
            Ok(Credentials {
                account: AccountId::from(account),
                password_hash,
                role: read_role(&role)?,
                patients: patients.into_iter().map(PatientId::from).collect(),
            })
        })
        .transpose()
    }

    /// Begins a family of refresh tokens, and forgets the account's expired ones.
    pub async fn start_refresh_family(
        &self,
        account: AccountId,
        token_hash: [u8; 32],
        ttl_s: i32,
    ) -> Result<(), Error> {
        self.run(move |pool| async move {
            sqlx::query(START_FAMILY)
                .bind(token_hash)
                .bind(account.get())
                .bind(ttl_s)
                .execute(&pool)
                .await
        })
        .await
        .map(|_| ())
    }

    /// Exchanges a refresh token for its successor. Exactly one exchange of a token succeeds; any
    /// other ends the family. There is no grace for a client that sends it twice at once.
    pub async fn rotate_refresh(
        &self,
        token_hash: [u8; 32],
        next_hash: [u8; 32],
        ttl_s: i32,
    ) -> Result<Rotated, Error> {
        let (outcome, account, role, patients): (String, Option<i64>, Option<String>, Vec<i64>) =
            self.run(move |pool| async move {
                sqlx::query_as(ROTATE)
                    .bind(token_hash)
                    .bind(next_hash)
                    .bind(ttl_s)
                    .fetch_one(&pool)
                    .await
            })
            .await?;
        match (outcome.as_str(), account, role) {
            ("rotated", Some(account), Some(role)) => Ok(Rotated::Done(Holder {
                account: AccountId::from(account),
                role: read_role(&role)?,
                patients: patients.into_iter().map(PatientId::from).collect(),
            })),
            ("reused", ..) => Ok(Rotated::Reused),
            ("unknown", ..) => Ok(Rotated::Unknown),
            (other, ..) => Err(Error::unknown_word("outcome of a rotation", other)),
        }
    }

    /// Ends the family of a refresh token; false if there is no such token.
    pub async fn revoke_refresh(&self, token_hash: [u8; 32]) -> Result<bool, Error> {
        self.run(move |pool| async move {
            sqlx::query_scalar(REVOKE).bind(token_hash).fetch_one(&pool).await
        })
        .await
    }
}

fn read_role(word: &str) -> Result<Role, Error> {
    Role::from_word(word).ok_or_else(|| Error::unknown_word("role", word))
}

const CREATE_ACCOUNT: &str = "
    WITH made AS (
        INSERT INTO account (login_hash, login_sealed, password_hash, role)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT ON CONSTRAINT account_login_key DO NOTHING
        RETURNING id
    ), noted AS (
        INSERT INTO audit_log (account_id, action, subject, subject_id, detail)
        SELECT $5, 'create', 'account', id, jsonb_build_object('role', $4)
        FROM made
        WHERE $5 IS NOT NULL OR $4 <> 'patient'
    )
    SELECT id FROM made";

const FIND_CREDENTIALS: &str = "
    SELECT a.id, a.password_hash, a.role,
           ARRAY(SELECT patient_id FROM account_patient WHERE account_id = a.id ORDER BY patient_id)
    FROM account a
    WHERE a.login_hash = $1";

const START_FAMILY: &str = "
    WITH forgotten AS (
        DELETE FROM refresh_token
        WHERE account_id = $2
          AND expires_at < now()
    )
    INSERT INTO refresh_token (token_hash, family, account_id, expires_at)
    VALUES ($1, gen_random_uuid(), $2, now() + make_interval(secs => $3))";

const ROTATE: &str = "
    SELECT r.outcome, a.id, a.role,
           ARRAY(SELECT patient_id FROM account_patient WHERE account_id = a.id ORDER BY patient_id)
    FROM refresh_rotate($1, $2, $3) r
    LEFT JOIN account a ON a.id = r.account_id";

const REVOKE: &str = "
    SELECT refresh_revoke($1)";
