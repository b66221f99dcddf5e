//! The outbox: bookings held but not yet settled.

use std::collections::{BTreeMap, HashMap};

use booking::{Booking, BookingId, Epoch, Partition};
use redis::Value;
use serde::Deserialize;

use crate::error::{Error, unreadable};
use crate::reply;
use crate::script::{Call, SETTLE};
use crate::step::parse_step;
use crate::{Inventory, keys, packed};

/// Bookings settled by one call, and calls are not sent together: Redis does nothing else meanwhile, some 0.3 ms,
/// and whoever books then waits for it.
const SETTLED_PER_CALL_MAX: usize = 32;
/// Entries asked for at once when all of them are read.
const SCAN_COUNT: usize = 500;

/// The outbox of a partition, in part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outbox {
    /// Entries that could be read.
    pub bookings: Vec<Booking>,
    /// Entries that could not: their field and raw value.
    pub unreadable: Vec<(String, String)>,
}

impl Inventory {
    /// W4: takes persisted bookings out of the outbox and notes whether each is live, many in one call
    /// whatever their sessions.
    ///
    /// Safe to repeat, in any order: a booking noted as dead stays dead.
    pub async fn settle(
        &self,
        partition: Partition,
        settled: &[(Booking, bool)],
    ) -> Result<(), Error> {
        for some in settled.chunks(SETTLED_PER_CALL_MAX) {
            parse_step(self.links.call_hot(&settle_call(partition, some)).await?)?;
        }
        Ok(())
    }

    /// Reads up to about `limit` outbox entries, from all over it in no order; scans on where
    /// the last call stopped (cursor, 0 to start and when done).
    pub async fn scan_outbox(
        &self,
        partition: Partition,
        cursor: u64,
        limit: usize,
    ) -> Result<(u64, Outbox), Error> {
        let mut connection = self.links.pooled().await?;
        let (cursor, entries) = scan(&mut connection, partition, cursor, limit).await?;
        let mut outbox = Outbox::default();
        for (field, value) in entries {
            match Booking::decode(value.as_bytes()) {
                Ok(booking) => outbox.bookings.push(booking),
                Err(_) => outbox.unreadable.push((field, value)),
            }
        }
        Ok((cursor, outbox))
    }

    /// Reads one booking of the outbox.
    pub async fn find(&self, id: BookingId) -> Result<Option<Booking>, Error> {
        let mut command = redis::cmd("HGET");
        command.arg(keys::out(id.partition())).arg(id.get());
        let entry: Option<Vec<u8>> = self.links.query_hot(&command).await?;
        entry.map(|json| Booking::decode(&json).map_err(|_| unreadable("outbox entry"))).transpose()
    }

    /// Counts the whole outbox by epoch. An entry that tells no epoch counts under
    /// [`Epoch::NONE`]: it may be of any.
    pub async fn outbox_epochs(&self, partition: Partition) -> Result<BTreeMap<Epoch, u64>, Error> {
        let mut connection = self.links.pooled().await?;
        // A scan may name an entry twice, so they are told apart before they are counted.
        let mut seen = HashMap::new();
        let mut cursor = 0;
        loop {
            let (next, entries) = scan(&mut connection, partition, cursor, SCAN_COUNT).await?;
            seen.extend(entries.into_iter().map(|(field, json)| (field, epoch_of(&json))));
            if next == 0 {
                break;
            }
            cursor = next;
        }
        let mut counts = BTreeMap::new();
        for epoch in seen.into_values() {
            *counts.entry(epoch).or_insert(0) += 1;
        }
        Ok(counts)
    }
}

fn settle_call(partition: Partition, settled: &[(Booking, bool)]) -> Call {
    let mut keys = vec![keys::ledger(partition), keys::out(partition)];
    let mut sessions = HashMap::new();
    let nth: Vec<usize> = settled
        .iter()
        .map(|(booking, _)| {
            let (session, next) = (booking.slot.session(), sessions.len() + 1);
            *sessions.entry(session).or_insert_with(|| {
                keys.push(keys::who(partition, session));
                next
            })
        })
        .collect();
    settled.iter().zip(nth).fold(Call::new(&SETTLE, &keys), |call, ((booking, is_live), nth)| {
        let call = call.arg(nth).arg(booking.id.get()).arg(booking.patient.get());
        call.arg(packed::entry(booking, *is_live))
    })
}

async fn scan(
    connection: &mut deadpool_redis::Connection,
    partition: Partition,
    cursor: u64,
    count: usize,
) -> Result<(u64, Vec<(String, String)>), Error> {
    let mut command = redis::cmd("HSCAN");
    command.arg(keys::out(partition)).arg(cursor).arg("COUNT").arg(count.max(1));
    let (cursor, entries): (u64, Value) = command.query_async(connection).await?;
    Ok((cursor, reply::fields(entries)?))
}

/// Reads no more of an entry than its epoch, which may be legible where the rest is not.
fn epoch_of(json: &str) -> Epoch {
    #[derive(Deserialize)]
    struct Entry {
        epoch: Epoch,
    }
    serde_json::from_str(json).map_or(Epoch::NONE, |entry: Entry| entry.epoch)
}
