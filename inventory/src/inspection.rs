//! A look at one partition's ledger.

use booking::{Epoch, Nonce, Partition, Term};
use redis::Value;

use crate::error::{Error, unreadable};
use crate::reply::Reply;
use crate::script::{Call, INSPECT};
use crate::{Inventory, keys};

/// What the ledger of a partition says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerHead {
    /// Its epoch; `Epoch::NONE` for a shell that was never opened.
    pub epoch: Epoch,
    /// The term written in it.
    pub term: Term,
    /// Its nonce.
    pub nonce: Nonce,
    /// Whether it sells.
    pub open: bool,
    /// Holds counted.
    pub held: u64,
    /// Of these settled.
    pub settled: u64,
}

/// A look at one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The ledger, if there is one.
    pub ledger: Option<LedgerHead>,
    /// The server's own term now.
    pub term: Term,
    /// Entries in the outbox.
    pub outbox_len: u64,
}

impl Inventory {
    /// Looks at a partition's ledger.
    pub async fn inspect(&self, partition: Partition) -> Result<Inspection, Error> {
        let call = Call::new(&INSPECT, &[keys::ledger(partition), keys::out(partition)]);
        parse(self.links.call_cold(&call).await?)
    }
}

pub(crate) fn parse(value: Value) -> Result<Inspection, Error> {
    let mut reply = Reply::parse(value)?;
    if reply.word() != "found" {
        return Err(unreadable("reply"));
    }
    let term = Term { run_id: reply.next()?, replid: reply.next()? };
    let outbox_len = reply.next()?;
    let ledger = match reply.next_if_present()? {
        Some(number) => Some(parse_head(Epoch(number), &mut reply)?),
        None => None,
    };
    Ok(Inspection { ledger, term, outbox_len })
}

fn parse_head(number: Epoch, reply: &mut Reply) -> Result<LedgerHead, Error> {
    // A shell still carries the number of the epoch before it.
    let (epoch, open) = match reply.next::<String>()?.as_str() {
        "shell" => (Epoch::NONE, false),
        "open" => (number, true),
        "frozen" => (number, false),
        _ => return Err(unreadable("ledger")),
    };
    Ok(LedgerHead {
        epoch,
        term: Term { run_id: reply.next()?, replid: reply.next()? },
        nonce: Nonce(reply.next()?),
        open,
        held: reply.next_if_present()?.unwrap_or(0),
        settled: reply.next_if_present()?.unwrap_or(0),
    })
}
