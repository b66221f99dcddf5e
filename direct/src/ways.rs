//! Four ways to guard a slot, each as its users write it.
//!
//! All answer the id of the appointment, or none if the slot is full or unknown.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use booking::{PatientId, SessionId, SlotId};
use sqlx::{PgConnection, PgPool};
use tokio::sync::Mutex;

const FREE: &str = "SELECT capacity - booked FROM slot WHERE id = $1";
const FREE_LOCKED: &str = "SELECT capacity - booked FROM slot WHERE id = $1 FOR UPDATE";
const INSERT: &str = "INSERT INTO appointment (slot_id, patient_id) VALUES ($1, $2) RETURNING id";
const COUNT: &str = "UPDATE slot SET booked = booked + 1 WHERE id = $1";
const TUNED: &str = "
    WITH taken AS (
        UPDATE slot SET booked = booked + 1 WHERE id = $1 AND booked < capacity RETURNING id
    )
    INSERT INTO appointment (slot_id, patient_id) SELECT id, $2 FROM taken RETURNING id";

/// The ways, by what guards the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// One lock of the process around everything, as with a synchronised collection.
    Memory,
    /// A lock of the process for each session.
    Locked,
    /// A transaction that locks the slot's row.
    Naive,
    /// One prepared statement.
    Tuned,
}

impl Way {
    /// Reads the name of a way.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "memory" => Some(Self::Memory),
            "locked" => Some(Self::Locked),
            "naive" => Some(Self::Naive),
            "tuned" => Some(Self::Tuned),
            _ => None,
        }
    }
}

/// The locks of this process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Locks {
    one: Arc<Mutex<()>>,
    by_session: Arc<StdMutex<HashMap<SessionId, Arc<Mutex<()>>>>>,
}

impl Locks {
    fn of(&self, session: SessionId) -> Arc<Mutex<()>> {
        let mut locks = self.by_session.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(locks.entry(session).or_default())
    }
}

/// Books a place.
pub(crate) async fn take(
    way: Way,
    pool: &PgPool,
    locks: &Locks,
    slot: SlotId,
    patient: PatientId,
) -> sqlx::Result<Option<i64>> {
    match way {
        Way::Memory => {
            let _guard = locks.one.lock().await;
            look_and_book(FREE, pool, slot, patient).await
        }
        Way::Locked => {
            let lock = locks.of(slot.session());
            let _guard = lock.lock().await;
            look_and_book(FREE, pool, slot, patient).await
        }
        Way::Naive => look_and_book(FREE_LOCKED, pool, slot, patient).await,
        Way::Tuned => {
            sqlx::query_scalar(TUNED)
                .bind(slot.get())
                .bind(patient.get())
                .fetch_optional(pool)
                .await
        }
    }
}

async fn look_and_book(
    look: &'static str,
    pool: &PgPool,
    slot: SlotId,
    patient: PatientId,
) -> sqlx::Result<Option<i64>> {
    let mut transaction = pool.begin().await?;
    let free: Option<i32> =
        sqlx::query_scalar(look).bind(slot.get()).fetch_optional(&mut *transaction).await?;
    if free.unwrap_or(0) < 1 {
        return Ok(None);
    }
    let id = insert(&mut transaction, slot, patient).await?;
    sqlx::query(COUNT).bind(slot.get()).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(Some(id))
}

/// Inserts an appointment; returns its id.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    slot: SlotId,
    patient: PatientId,
) -> sqlx::Result<i64> {
    sqlx::query_scalar(INSERT).bind(slot.get()).bind(patient.get()).fetch_one(connection).await
}
