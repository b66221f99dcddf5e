//! Patients: real persons, found by the keyed hash of their id number, shared between accounts.

use booking::{AccountId, PatientId};

use crate::{Error, Ledger};

/// How many patients one account may act for.
pub const PATIENTS_PER_ACCOUNT_MAX: i32 = 5;

/// A patient to be added to an account. Everything personal comes in hashed or sealed.
#[derive(Clone)]
pub struct NewPatient {
    /// Keyed hash of the id number.
    pub id_number_hash: Vec<u8>,
    /// The id number, encrypted.
    pub id_number_sealed: Vec<u8>,
    /// The name this account gives, encrypted.
    pub name_sealed: Vec<u8>,
}

/// The outcome of adding a patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatientAdded {
    /// The account acts for them. If it did before, they have the new name.
    Done(PatientId),
    /// The account acts for as many as it may.
    LimitReached,
    /// There is no such account.
    NoAccount,
}

/// A patient of an account.
#[derive(Clone)]
pub struct PatientRow {
    /// The patient.
    pub id: PatientId,
    /// The name this account gave, encrypted.
    pub name_sealed: Vec<u8>,
    /// The id number, encrypted.
    pub id_number_sealed: Vec<u8>,
}

impl Ledger {
    /// Lets an account act for a person.
    pub async fn add_patient(
        &self,
        account: AccountId,
        new: NewPatient,
    ) -> Result<PatientAdded, Error> {
        let (outcome, id): (String, Option<i64>) = self
            .run(move |pool| async move {
                sqlx::query_as("SELECT * FROM patient_add($1, $2, $3, $4, $5)")
                    .bind(account.get())
                    .bind(new.id_number_hash)
                    .bind(new.id_number_sealed)
                    .bind(new.name_sealed)
                    .bind(PATIENTS_PER_ACCOUNT_MAX)
                    .fetch_one(&pool)
                    .await
            })
            .await?;
        match (outcome.as_str(), id) {
            ("done", Some(id)) => Ok(PatientAdded::Done(PatientId::from(id))),
            ("limit_reached", _) => Ok(PatientAdded::LimitReached),
            ("no_account", _) => Ok(PatientAdded::NoAccount),
            (other, _) => Err(Error::unknown_word("outcome of adding a patient", other)),
        }
    }

    /// Returns the patients of an account.
    pub async fn patients(&self, account: AccountId) -> Result<Vec<PatientRow>, Error> {
        let rows: Vec<(i64, Vec<u8>, Vec<u8>)> = self
            .run(move |pool| async move {
                sqlx::query_as(LIST).bind(account.get()).fetch_all(&pool).await
            })
            .await?;
        let patient = |(id, name_sealed, id_number_sealed)| PatientRow {
            id: PatientId::from(id),
            name_sealed,
            id_number_sealed,
        };
        Ok(rows.into_iter().map(patient).collect())
    }

    /// Ends that an account acts for a patient; false if it did not. Bookings stay.
    pub async fn remove_patient(
        &self,
        account: AccountId,
        patient: PatientId,
    ) -> Result<bool, Error> {
        let removed = self
            .run(move |pool| async move {
                sqlx::query(REMOVE).bind(account.get()).bind(patient.get()).execute(&pool).await
            })
            .await?;
        Ok(removed.rows_affected() > 0)
    }

    /// Tells whether an account acts for a patient.
    pub async fn is_patient_of(
        &self,
        account: AccountId,
        patient: PatientId,
    ) -> Result<bool, Error> {
        self.run(move |pool| async move {
            sqlx::query_scalar(IS_OF).bind(account.get()).bind(patient.get()).fetch_one(&pool).await
        })
        .await
    }

    /// Makes `count` accounts with one patient each, whom nobody can log in as: a crowd for
    /// demonstrations and load tests, whose tokens are minted directly.
    pub async fn create_crowd(&self, count: u32) -> Result<Vec<(AccountId, PatientId)>, Error> {
        let mut crowd = Vec::with_capacity(count as usize);
        let mut missing = count;
        while missing > 0 {
            // Small enough for any statement_timeout.
            let batch = missing.min(CROWD_BATCH_MAX);
            let made: Vec<(i64, i64)> = self
                .run(move |pool| async move {
                    sqlx::query_as(CROWD).bind(i64::from(batch)).fetch_all(&pool).await
                })
                .await?;
            crowd.extend(made.into_iter().map(|(a, p)| (AccountId::from(a), PatientId::from(p))));
            missing -= batch;
        }
        Ok(crowd)
    }
}

const CROWD_BATCH_MAX: u32 = 5_000;

const LIST: &str = "
    SELECT p.id, ap.name_sealed, p.id_number_sealed
    FROM account_patient ap
    JOIN patient p ON p.id = ap.patient_id
    WHERE ap.account_id = $1
    ORDER BY p.id";

const REMOVE: &str = "
    DELETE FROM account_patient
    WHERE account_id = $1
      AND patient_id = $2";

const IS_OF: &str = "
    SELECT EXISTS (
        SELECT
        FROM account_patient
        WHERE account_id = $1
          AND patient_id = $2)";

// A password hash of '!' matches no password, and hashes of random bytes no name or number.
const CROWD: &str = "
    WITH accounts AS (
        INSERT INTO account (login_hash, login_sealed, password_hash, role)
        SELECT sha256(uuid_send(gen_random_uuid())), '', '!', 'patient'
        FROM generate_series(1, $1)
        RETURNING id
    ), patients AS (
        INSERT INTO patient (id_number_hash, id_number_sealed)
        SELECT sha256(uuid_send(gen_random_uuid())), ''
        FROM generate_series(1, $1)
        RETURNING id
    )
    INSERT INTO account_patient (account_id, patient_id, name_sealed)
    SELECT a.id, p.id, ''
    FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM accounts) a
    JOIN (SELECT id, row_number() OVER (ORDER BY id) AS place FROM patients) p USING (place)
    RETURNING account_id, patient_id";
