//! What the ledger remembers of a patient in a session.

use booking::{BookingId, Digest, Epoch, Partition, PatientId, SessionId};

use crate::error::{Error, unreadable};
use crate::{Inventory, keys};

/// A patient's last booking in a session, as far as this Redis knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The booking.
    pub id: BookingId,
    /// Digest of its idempotency key.
    pub key: Digest,
    /// Digest of its request.
    pub request: Digest,
    /// Its epoch.
    pub epoch: Epoch,
}

impl Inventory {
    /// Returns what is remembered of a patient in a session. Changes nothing.
    pub async fn known(
        &self,
        partition: Partition,
        session: SessionId,
        patient: PatientId,
    ) -> Result<Option<Known>, Error> {
        let mut command = redis::cmd("HGET");
        command.arg(keys::who(partition, session)).arg(patient.get());
        let entry: Option<String> = self.links.query_hot(&command).await?;
        entry.map(|text| parse(&text).ok_or_else(|| unreadable("entry"))).transpose()
    }
}

/// Reads `id,key,request,epoch,live`.
fn parse(text: &str) -> Option<Known> {
    let mut words = text.split(',');
    let id = BookingId::from(words.next()?.parse::<i64>().ok()?);
    let key = words.next()?.parse().ok()?;
    let request = words.next()?.parse().ok()?;
    let epoch = Epoch(words.next()?.parse().ok()?);
    words.next().filter(|live| matches!(*live, "0" | "1"))?;
    words.next().is_none().then_some(Known { id, key, request, epoch })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_five_words() {
        let (key, request) = (Digest::of_key("k"), Digest::of_key("r"));
        let known = Known { id: BookingId::from(7), key, request, epoch: Epoch(3) };
        assert_eq!(parse(&format!("7,{key},{request},3,1")), Some(known));
        for bad in ["", "7", "7,x,y,3,1", &format!("7,{key},{request},3,2")] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
