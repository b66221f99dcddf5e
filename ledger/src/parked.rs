//! Messages set aside for a person: parking, listing, step P1.

use booking::{Booking, BookingId, Epoch, ParkedId, Partition, SlotId, UnixMs};

use crate::column;
use crate::persist::{Outcome, Verdict};
use crate::{Error, Ledger};

/// What is parked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parked {
    /// One booking that can't be persisted.
    Booking(Booking),
    /// A message that can't be read, with what its manifest says it held (epoch and so on unknown if none).
    Message {
        /// The booking it may hold; one row per manifest entry, one with `None` if there is no manifest.
        entry: Option<booking::message::ManifestEntry>,
        /// The raw body.
        body: Vec<u8>,
    },
}

/// A parked row, for lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedRow {
    /// Its id.
    pub id: ParkedId,
    /// Its partition.
    pub partition: Partition,
    /// The epoch, if known.
    pub epoch: Option<Epoch>,
    /// The booking, if known.
    pub booking: Option<BookingId>,
    /// The slot, if known.
    pub slot: Option<SlotId>,
    /// A stable word.
    pub reason: String,
    /// More, without personal data.
    pub detail: String,
    /// Whether it can be replayed.
    pub replayable: bool,
    /// When.
    pub parked_at: UnixMs,
}

/// The outcome of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// Persisted and no longer parked.
    Done(Outcome),
    /// Still refused: it stays parked.
    StillRefused(String),
    /// Not a readable booking.
    NotReplayable,
    /// No such row.
    NotFound,
}
impl Ledger {
    /// Parks messages; one that is parked already (same booking, or the same unreadable body
    /// without a manifest) stays as it is.
    pub async fn park(
        &self,
        partition: Partition,
        reason: &str,
        detail: &str,
        parked: &[Parked],
    ) -> Result<(), Error> {
        let (reason, detail) = (reason.to_owned(), detail.to_owned());
        let columns = ParkedColumns::of(parked);
        self.run(move |pool| async move {
            sqlx::query(
                "INSERT INTO parked (partition, e, booking_id, slot_id, reason, detail, kind, body)
                 SELECT $1, m.e, m.booking_id, m.slot_id, $2, $3, m.kind, m.body
                 FROM unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::bytea[])
                     AS m (e, booking_id, slot_id, kind, body)
                 -- A NULL booking conflicts with nothing: a redelivery is told by its body.
                 WHERE m.booking_id IS NOT NULL
                    OR NOT EXISTS (
                        SELECT FROM parked p
                        WHERE p.partition = $1 AND p.e IS NULL AND p.body = m.body)
                 ON CONFLICT (booking_id) DO NOTHING",
            )
            .bind(column::stored_partition(partition))
            .bind(reason)
            .bind(detail)
            .bind(columns.epochs)
            .bind(columns.ids)
            .bind(columns.slots)
            .bind(columns.kinds)
            .bind(columns.bodies)
            .execute(&pool)
            .await?;
            Ok(())
        })
        .await
    }

    /// Lists parked rows, latest first, older than `before`.
    pub async fn parked(
        &self,
        before: Option<ParkedId>,
        limit: u16,
    ) -> Result<Vec<ParkedRow>, Error> {
        let before = before.map_or(i64::MAX, ParkedId::get);
        let rows: Vec<StoredParked> = self
            .run(move |pool| async move {
                sqlx::query_as(
                    "SELECT id, partition, e, booking_id, slot_id, reason, detail,
                         kind = 'booking' AS replayable, unix_ms(parked_at) AS parked_ms
                     FROM parked
                     WHERE id < $1
                     ORDER BY id DESC
                     LIMIT $2",
                )
                .bind(before)
                .bind(i64::from(limit))
                .fetch_all(&pool)
                .await
            })
            .await?;
        Ok(rows.into_iter().map(StoredParked::read).collect::<Result<_, _>>()?)
    }

    /// P1: persists a parked booking and deletes its row in one transaction.
    pub async fn replay_parked(&self, id: ParkedId) -> Result<Replayed, Error> {
        let stored: Option<(i16, String, Vec<u8>)> = self
            .run(move |pool| async move {
                sqlx::query_as("SELECT partition, kind, body FROM parked WHERE id = $1")
                    .bind(id.get())
                    .fetch_optional(&pool)
                    .await
            })
            .await?;
        let Some((partition, kind, body)) = stored else { return Ok(Replayed::NotFound) };
        let booking = match Booking::decode(&body) {
            Ok(booking) if kind == KIND_BOOKING => booking,
            Ok(_) | Err(_) => return Ok(Replayed::NotReplayable),
        };
        match self.replay_booking(id, partition, booking).await {
            Ok(None) => Ok(Replayed::NotFound),
            Ok(Some(outcome @ Outcome::Row { .. })) => Ok(Replayed::Done(outcome)),
            Ok(Some(Outcome::IdConflict)) => Ok(Replayed::StillRefused("id_conflict".to_owned())),
            Ok(Some(Outcome::UnknownAllotment)) => {
                Ok(Replayed::StillRefused("unknown_allotment".to_owned()))
            }
            Err(Error::Refused { constraint }) => Ok(Replayed::StillRefused(constraint)),
            Err(error) => Err(error),
        }
    }

    /// Deletes a parked message that can't be replayed, on an admin's word; false if there is none.
    ///
    /// A booking that could still be persisted stays: somebody may have been told "queued".
    pub async fn discard_parked(&self, id: ParkedId) -> Result<bool, Error> {
        self.run(move |pool| async move {
            sqlx::query_scalar("SELECT discard_parked($1)").bind(id.get()).fetch_one(&pool).await
        })
        .await
    }

    async fn replay_booking(
        &self,
        id: ParkedId,
        partition: i16,
        booking: Booking,
    ) -> Result<Option<Outcome>, Error> {
        let verdict: Option<Verdict> = self
            .run_again(move |pool| {
                let booking = booking.clone();
                async move {
                    sqlx::query_as(
                        "SELECT outcome, state, reason, number
                         FROM replay_parked($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                    )
                    .bind(id.get())
                    .bind(partition)
                    .bind(booking.id.get())
                    .bind(booking.epoch.0)
                    .bind(booking.slot.get())
                    .bind(booking.patient.get())
                    .bind(booking.account.get())
                    .bind(booking.key.as_bytes().to_vec())
                    .bind(booking.request.as_bytes().to_vec())
                    .bind(booking.accepted_at.0)
                    .fetch_optional(&pool)
                    .await
                }
            })
            .await?;
        Ok(verdict.map(|verdict| verdict.read()).transpose()?)
    }
}

const KIND_BOOKING: &str = "booking";
const KIND_MESSAGE: &str = "message";

#[derive(Default)]
struct ParkedColumns {
    epochs: Vec<Option<i64>>,
    ids: Vec<Option<i64>>,
    slots: Vec<Option<i64>>,
    kinds: Vec<&'static str>,
    bodies: Vec<Vec<u8>>,
}

impl ParkedColumns {
    fn of(parked: &[Parked]) -> Self {
        let mut columns = Self::default();
        for one in parked {
            let (held, kind, body) = match one {
                Parked::Booking(booking) => (
                    Some((booking.epoch, booking.id, booking.slot)),
                    KIND_BOOKING,
                    booking.encode().into_bytes(),
                ),
                Parked::Message { entry, body } => (
                    entry.map(|entry| (entry.epoch, entry.id, entry.slot)),
                    KIND_MESSAGE,
                    body.clone(),
                ),
            };
            columns.epochs.push(held.map(|(epoch, ..)| epoch.0));
            columns.ids.push(held.map(|(_, id, _)| id.get()));
            columns.slots.push(held.map(|(.., slot)| slot.get()));
            columns.kinds.push(kind);
            columns.bodies.push(body);
        }
        columns
    }
}

#[derive(sqlx::FromRow)]
struct StoredParked {
    id: i64,
    partition: i16,
    e: Option<i64>,
    booking_id: Option<i64>,
    slot_id: Option<i64>,
    reason: String,
    detail: String,
    replayable: bool,
    parked_ms: i64,
}

impl StoredParked {
    fn read(self) -> Result<ParkedRow, sqlx::Error> {
        Ok(ParkedRow {
            id: ParkedId::from(self.id),
            partition: column::partition(self.partition)?,
            epoch: self.e.map(Epoch),
            booking: self.booking_id.map(BookingId::from),
            slot: self.slot_id.map(SlotId::from),
            reason: self.reason,
            detail: self.detail,
            replayable: self.replayable,
            parked_at: UnixMs(self.parked_ms),
        })
    }
}
