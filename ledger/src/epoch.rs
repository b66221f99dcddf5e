//! Epochs and their allotments: steps R2, R4, R6, R9, W6 and the check G3 of the protocol.

use booking::{Booking, Epoch, Nonce, Partition, ReleaseId, SessionId, SlotId, Term};
use futures::FutureExt as _;

use crate::booking_row::{StoredBooking, booking_columns};
use crate::column;
use crate::{Error, Ledger};

pub use crate::window::ReleaseWindow;

/// An epoch's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochState {
    /// Redis may sell.
    Open,
    /// Nothing may be answered "queued" under it.
    Sealed,
    /// Its unused quota is back.
    Closed,
}

/// An epoch's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochRow {
    /// Its partition.
    pub partition: Partition,
    /// Its number.
    pub epoch: Epoch,
    /// The Redis life it was given to.
    pub term: Term,
    /// Ties it to the shell.
    pub nonce: Nonce,
    /// Its state.
    pub state: EpochState,
    /// Ended on purpose, sold counts known.
    pub frozen: bool,
    /// Whether its barrier came through.
    pub drained: bool,
}

/// A cumulative grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The slot.
    pub slot: SlotId,
    /// All the epoch was granted.
    pub granted: u32,
    /// Its release.
    pub release: ReleaseId,
}

/// What a look at a partition's quota shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uneven {
    /// A top-up would grant something.
    pub has_free: bool,
    /// The open epoch holds quota of slots that are no longer on offer (target below booked +
    /// escrowed): a freeze gets it back.
    pub has_excess: bool,
}

/// The outcome of opening an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The new epoch.
    Epoch(Epoch),
    /// Somebody else opened one first.
    Overtaken,
}

/// The outcome of closing an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Closed, now or before.
    Done,
    /// Not sealed, not drained, or parked messages are in the way.
    NotYet,
}

impl Ledger {
    /// Returns every unclosed epoch and each partition's latest, by partition and number.
    pub async fn epochs(&self) -> Result<Vec<EpochRow>, Error> {
        let rows: Vec<StoredEpoch> = self
            .run(|pool| async move {
                sqlx::query_as(
                    "SELECT partition, e, run_id, replid, nonce, state, frozen,
                         drained_at IS NOT NULL AS drained
                     FROM epoch
                     WHERE state <> 'closed'
                     UNION
                     SELECT latest.*
                     FROM generate_series(0, 63) AS every (partition)
                     CROSS JOIN LATERAL (
                         SELECT partition, e, run_id, replid, nonce, state, frozen,
                             drained_at IS NOT NULL AS drained
                         FROM epoch
                         WHERE epoch.partition = every.partition::smallint
                         ORDER BY e DESC
                         LIMIT 1) AS latest
                     ORDER BY partition, e",
                )
                .fetch_all(&pool)
                .await
            })
            .await?;
        Ok(rows.into_iter().map(StoredEpoch::read).collect::<Result<_, _>>()?)
    }

    /// G3: tells for each epoch whether it is still open (not sealed, not closed), in order. One statement,
    /// in which each is asked for once: the bookings of an envelope mostly share theirs.
    pub async fn are_open(&self, epochs: &[(Partition, Epoch)]) -> Result<Vec<bool>, Error> {
        let mut each: Vec<&(Partition, Epoch)> = Vec::new();
        for epoch in epochs {
            if !each.contains(&epoch) {
                each.push(epoch);
            }
        }
        let (partitions, numbers): (Vec<i16>, Vec<i64>) = each
            .iter()
            .map(|(partition, epoch)| (column::stored_partition(*partition), epoch.0))
            .unzip();
        let answers = self.ask_whether_open(partitions, numbers).await?;
        let is_open = |epoch| {
            let at = each.iter().position(|one| *one == epoch)?;
            answers.get(at).copied()
        };
        Ok(epochs.iter().map(|epoch| is_open(epoch).unwrap_or(false)).collect())
    }

    async fn ask_whether_open(
        &self,
        partitions: Vec<i16>,
        numbers: Vec<i64>,
    ) -> Result<Vec<bool>, Error> {
        self.run_kept(move |connection| {
            sqlx::query_scalar(
                "SELECT coalesce(epoch.state = 'open', false)
                 FROM unnest($1::smallint[], $2::bigint[]) WITH ORDINALITY
                     AS asked (partition, e, at)
                 LEFT JOIN epoch ON epoch.partition = asked.partition AND epoch.e = asked.e
                 ORDER BY asked.at",
            )
            .bind(partitions.clone())
            .bind(numbers.clone())
            .fetch_all(connection)
            .boxed()
        })
        .await
    }

    /// R2: seals `current` (if any) and opens the next epoch with all that is free, in one transaction.
    ///
    /// Asked again with the same nonce and term it answers the same, while that epoch is open.
    pub async fn open_epoch(
        &self,
        partition: Partition,
        current: Epoch,
        term: &Term,
        nonce: &Nonce,
    ) -> Result<Opened, Error> {
        let (term, nonce) = (term.clone(), nonce.clone());
        let opened: Option<i64> = self
            .run_again(move |pool| {
                let (term, nonce) = (term.clone(), nonce.clone());
                async move {
                    sqlx::query_scalar("SELECT open_epoch($1, $2, $3, $4, $5)")
                        .bind(column::stored_partition(partition))
                        .bind(current.0)
                        .bind(term.run_id)
                        .bind(term.replid)
                        .bind(nonce.0)
                        .fetch_one(&pool)
                        .await
                }
            })
            .await?;
        Ok(opened.map_or(Opened::Overtaken, |number| Opened::Epoch(Epoch(number))))
    }

    /// R4: grants what is free to the open epoch, of ten thousand slots at most. Returns the grants that
    /// changed: none if the epoch is not open.
    pub async fn top_up(&self, partition: Partition, epoch: Epoch) -> Result<Vec<Grant>, Error> {
        let rows: Vec<StoredGrant> = self
            .run_again(move |pool| async move {
                sqlx::query_as("SELECT slot_id, granted, release_id FROM top_up($1, $2)")
                    .bind(column::stored_partition(partition))
                    .bind(epoch.0)
                    .fetch_all(&pool)
                    .await
            })
            .await?;
        Ok(rows.into_iter().map(StoredGrant::read).collect::<Result<_, _>>()?)
    }

    /// Returns all grants of an epoch.
    pub async fn grants(&self, partition: Partition, epoch: Epoch) -> Result<Vec<Grant>, Error> {
        let rows: Vec<StoredGrant> = self
            .run(move |pool| async move {
                sqlx::query_as(
                    "SELECT a.slot_id, a.granted, coalesce(s.release_id, 0) AS release_id
                     FROM epoch_slot a
                     JOIN slot s ON s.id = a.slot_id
                     WHERE a.partition = $1
                       AND a.e = $2
                     ORDER BY a.slot_id",
                )
                .bind(column::stored_partition(partition))
                .bind(epoch.0)
                .fetch_all(&pool)
                .await
            })
            .await?;
        Ok(rows.into_iter().map(StoredGrant::read).collect::<Result<_, _>>()?)
    }

    /// Lists what an epoch was granted and has not consumed, of the first `slots` slots from `first` on:
    /// what must be left of it in Redis once every booking it sold has its row.
    pub async fn unconsumed(
        &self,
        partition: Partition,
        epoch: Epoch,
        first: SlotId,
        slots: u16,
    ) -> Result<Vec<(SlotId, u32)>, Error> {
        let rows: Vec<(i64, i32)> = self
            .run(move |pool| async move {
                sqlx::query_as("SELECT slot_id, unconsumed FROM unconsumed($1, $2, $3, $4)")
                    .bind(column::stored_partition(partition))
                    .bind(epoch.0)
                    .bind(first.get())
                    .bind(i32::from(slots))
                    .fetch_all(&pool)
                    .await
            })
            .await?;
        // Never negative: a constraint keeps consumed within granted.
        let left = |left: i32| u32::try_from(left).unwrap_or_default();
        Ok(rows.into_iter().map(|(slot, n)| (SlotId::from(slot), left(n))).collect())
    }

    /// R6: seals an open epoch with the sold counts of its true ledger, and takes the unsold back.
    ///
    /// `sold` names every slot the epoch was granted any of; otherwise `Refused` (`sold_missing`,
    /// `sold_below_consumed`, `sold_above_granted`, `allotment_unknown`). `Done` if it is frozen or
    /// closed, now or before; `NotYet` if it was sealed another way: then its queue must drain.
    pub async fn freeze(
        &self,
        partition: Partition,
        epoch: Epoch,
        sold: &[(SlotId, u32)],
    ) -> Result<Closed, Error> {
        let (slots, counts): (Vec<i64>, Vec<i32>) =
            sold.iter().map(|(slot, sold)| (slot.get(), column::stored_count(*sold))).unzip();
        let done: bool = self
            .run_long(move |pool| {
                let (slots, counts) = (slots.clone(), counts.clone());
                async move {
                    sqlx::query_scalar("SELECT freeze_epoch($1, $2, $3, $4)")
                        .bind(column::stored_partition(partition))
                        .bind(epoch.0)
                        .bind(slots)
                        .bind(counts)
                        .fetch_one(&pool)
                        .await
                }
            })
            .await?;
        Ok(if done { Closed::Done } else { Closed::NotYet })
    }

    /// W6: notes that the epoch's barrier came through. `Refused` (`epoch_not_sealed`) if it is
    /// open or unknown: no barrier of it can be.
    pub async fn record_drained(&self, partition: Partition, epoch: Epoch) -> Result<(), Error> {
        self.run_again(move |pool| async move {
            sqlx::query("SELECT record_drained($1, $2)")
                .bind(column::stored_partition(partition))
                .bind(epoch.0)
                .execute(&pool)
                .await?;
            Ok(())
        })
        .await
    }

    /// R9: closes a sealed epoch if it is drained (or frozen with all consumed) and nothing of it is parked. The caller has checked the outbox.
    pub async fn close_epoch(&self, partition: Partition, epoch: Epoch) -> Result<Closed, Error> {
        let done: bool = self
            .run_long(move |pool| async move {
                sqlx::query_scalar("SELECT close_epoch($1, $2)")
                    .bind(column::stored_partition(partition))
                    .bind(epoch.0)
                    .fetch_one(&pool)
                    .await
            })
            .await?;
        Ok(if done { Closed::Done } else { Closed::NotYet })
    }

    /// Returns the live bookings of these sessions, which are distinct.
    pub async fn live_of_sessions(&self, sessions: &[SessionId]) -> Result<Vec<Booking>, Error> {
        let sessions: Vec<i64> = sessions.iter().map(|session| session.get()).collect();
        let rows: Vec<StoredBooking> = self
            .run(move |pool| async move {
                sqlx::query_as(concat!(
                    "SELECT ",
                    booking_columns!(),
                    " FROM live_of_sessions($1) b ORDER BY b.id",
                ))
                .bind(sessions)
                .fetch_all(&pool)
                .await
            })
            .await?;
        Ok(rows
            .into_iter()
            .map(|row| Ok(row.read()?.booking))
            .collect::<Result<_, sqlx::Error>>()?)
    }

    /// Tells what there is to do in a partition's quota, if anything.
    pub async fn uneven(&self, partition: Partition) -> Result<Uneven, Error> {
        let (has_free, has_excess) = self
            .run(move |pool| async move {
                sqlx::query_as("SELECT has_free, has_excess FROM look_uneven($1)")
                    .bind(column::stored_partition(partition))
                    .fetch_one(&pool)
                    .await
            })
            .await?;
        Ok(Uneven { has_free, has_excess })
    }
}

#[derive(sqlx::FromRow)]
struct StoredEpoch {
    partition: i16,
    e: i64,
    run_id: String,
    replid: String,
    nonce: String,
    state: String,
    frozen: bool,
    drained: bool,
}

impl StoredEpoch {
    fn read(self) -> Result<EpochRow, sqlx::Error> {
        let state = match self.state.as_str() {
            "open" => EpochState::Open,
            "sealed" => EpochState::Sealed,
            "closed" => EpochState::Closed,
            _ => return Err(column::unreadable("an epoch's state this version does not know")),
        };
        Ok(EpochRow {
            partition: column::partition(self.partition)?,
            epoch: Epoch(self.e),
            term: Term { run_id: self.run_id, replid: self.replid },
            nonce: Nonce(self.nonce),
            state,
            frozen: self.frozen,
            drained: self.drained,
        })
    }
}

#[derive(sqlx::FromRow)]
struct StoredGrant {
    slot_id: i64,
    granted: i32,
    release_id: i64,
}

impl StoredGrant {
    fn read(self) -> Result<Grant, sqlx::Error> {
        Ok(Grant {
            slot: SlotId::from(self.slot_id),
            granted: column::count(self.granted)?,
            release: ReleaseId::from(self.release_id),
        })
    }
}
