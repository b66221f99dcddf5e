//! Step W1: bookings become durable rows.

use std::collections::HashSet;

use booking::{Booking, BookingId, Partition, PatientId, Reason, State};

use crate::column;
use crate::{Error, Ledger};

/// What became of one booking of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has its row, made now or before.
    Row {
        /// Its state.
        state: State,
        /// Why, if rejected.
        reason: Option<Reason>,
        /// Its number in the slot.
        number: Option<u32>,
    },
    /// Its id has a row of another patient, slot or epoch. To be parked.
    IdConflict,
    /// Its epoch or allotment was never opened. To be parked.
    UnknownAllotment,
}

/// The answer for one booking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persisted {
    /// The booking.
    pub id: BookingId,
    /// What became of it.
    pub outcome: Outcome,
}

impl Ledger {
    /// Persists bookings of one partition, one statement per wave of distinct patients and ids
    /// (one wave unless a patient is in the batch twice). Returns what the database returned, for
    /// every id it returned; an id that is missing was not persisted.
    ///
    /// `Contended` is retried inside a few times. `Refused` names the constraint one of them broke.
    /// An error is returned only if nothing was persisted: after a first wave, what failed is
    /// merely missing from the answer.
    pub async fn persist(
        &self,
        partition: Partition,
        bookings: &[Booking],
    ) -> Result<Vec<Persisted>, Error> {
        let mut persisted = Vec::with_capacity(bookings.len());
        for wave in waves(bookings) {
            match self.persist_wave(partition, wave).await {
                Ok(rows) => persisted.extend(rows),
                Err(error) if persisted.is_empty() => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "a later wave of a batch was not persisted");
                    break;
                }
            }
        }
        Ok(persisted)
    }

    async fn persist_wave(
        &self,
        partition: Partition,
        wave: Wave,
    ) -> Result<Vec<Persisted>, Error> {
        let partition = column::stored_partition(partition);
        let wave = std::sync::Arc::new(wave);
        let rows: Vec<PersistedRow> = self
            .run_kept_again(move |connection| {
                let wave = std::sync::Arc::clone(&wave);
                Box::pin(async move {
                    sqlx::query_as(
                        "SELECT id, outcome, state, reason, number
                         FROM persist_bookings($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                    )
                    .bind(partition)
                    .bind(&wave.ids)
                    .bind(&wave.epochs)
                    .bind(&wave.slots)
                    .bind(&wave.patients)
                    .bind(&wave.accounts)
                    .bind(&wave.keys)
                    .bind(&wave.requests)
                    .bind(&wave.accepted_ms)
                    .fetch_all(connection)
                    .await
                })
            })
            .await?;
        let read = |row: &PersistedRow| {
            Ok(Persisted { id: BookingId::from(row.id), outcome: row.verdict.read()? })
        };
        rows.iter().map(read).collect::<Result<_, sqlx::Error>>().map_err(Error::from)
    }
}

#[derive(sqlx::FromRow)]
struct PersistedRow {
    id: i64,
    #[sqlx(flatten)]
    verdict: Verdict,
}

/// The columns in which the steps tell what became of a booking.
#[derive(sqlx::FromRow)]
pub(crate) struct Verdict {
    outcome: String,
    state: Option<String>,
    reason: Option<String>,
    number: Option<i32>,
}

impl Verdict {
    /// Reads the words.
    pub(crate) fn read(&self) -> Result<Outcome, sqlx::Error> {
        match self.outcome.as_str() {
            "row" => Ok(Outcome::Row {
                state: column::word(self.state.as_deref().unwrap_or_default())?,
                reason: self.reason.as_deref().map(column::word).transpose()?,
                number: self.number.map(column::count).transpose()?,
            }),
            "id_conflict" => Ok(Outcome::IdConflict),
            "unknown_allotment" => Ok(Outcome::UnknownAllotment),
            _ => Err(column::unreadable("an outcome this version does not know")),
        }
    }
}

/// The columns of one statement's bookings: no id and no patient twice, so that every booking is
/// judged with the ones before it in sight.
#[derive(Debug, Default)]
struct Wave {
    ids: Vec<i64>,
    epochs: Vec<i64>,
    slots: Vec<i64>,
    patients: Vec<i64>,
    accounts: Vec<i64>,
    keys: Vec<Vec<u8>>,
    requests: Vec<Vec<u8>>,
    accepted_ms: Vec<i64>,
    ids_seen: HashSet<BookingId>,
    patients_seen: HashSet<PatientId>,
}

impl Wave {
    fn has_room_for(&self, booking: &Booking) -> bool {
        !self.ids_seen.contains(&booking.id) && !self.patients_seen.contains(&booking.patient)
    }

    fn push(&mut self, booking: &Booking) {
        self.ids.push(booking.id.get());
        self.epochs.push(booking.epoch.0);
        self.slots.push(booking.slot.get());
        self.patients.push(booking.patient.get());
        self.accounts.push(booking.account.get());
        self.keys.push(booking.key.as_bytes().to_vec());
        self.requests.push(booking.request.as_bytes().to_vec());
        self.accepted_ms.push(booking.accepted_at.0);
        self.ids_seen.insert(booking.id);
        self.patients_seen.insert(booking.patient);
    }
}

/// Splits a batch into waves. What meets an id or patient again waits for the wave after the one
/// that holds it, so that a patient's bookings keep their order.
fn waves(bookings: &[Booking]) -> Vec<Wave> {
    let mut waves: Vec<Wave> = Vec::new();
    for booking in bookings {
        let after =
            waves.iter().rposition(|wave| !wave.has_room_for(booking)).map_or(0, |at| at + 1);
        if after == waves.len() {
            waves.push(Wave::default());
        }
        waves[after].push(booking);
    }
    waves
}

#[cfg(test)]
mod tests {
    use booking::{AccountId, Digest, Epoch, SlotId, UnixMs};

    use super::*;

    fn booking(id: i64, patient: i64) -> Booking {
        let (slot, patient) = (SlotId::from(256), PatientId::from(patient));
        Booking {
            id: BookingId::from(id),
            epoch: Epoch(1),
            slot,
            patient,
            account: AccountId::from(1),
            key: Digest::of_key("k"),
            request: Digest::of_request(slot, patient),
            accepted_at: UnixMs(0),
        }
    }

    fn ids(bookings: &[Booking]) -> Vec<Vec<i64>> {
        waves(bookings).into_iter().map(|wave| wave.ids).collect()
    }

    #[test]
    fn distinct_patients_and_ids_are_one_wave() {
        assert_eq!(ids(&[booking(1, 1), booking(2, 2), booking(3, 3)]), [[1, 2, 3]]);
    }

    #[test]
    fn a_patient_or_id_met_again_waits_for_a_later_wave_in_order() {
        let batch = [booking(1, 1), booking(2, 1), booking(1, 9), booking(3, 1), booking(4, 2)];
        assert_eq!(ids(&batch), [vec![1, 4], vec![2, 1], vec![3]]);
    }
}
