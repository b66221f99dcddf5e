//! What stands in the queues, how to make them, and how to be rid of them.

use crate::Unknown;
use crate::fault::Fault;
use crate::settings::Settings;
use crate::topology::Topology;
use crate::wire::{Dialer, Wire};

/// Messages ready in the queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depths {
    /// By partition.
    pub bookings: Vec<u32>,
    /// In the parking queue.
    pub parking: u32,
}

/// How many messages stand in each bookings queue and in the parking queue; `Unknown` if RabbitMQ
/// can't be asked or a queue is not there.
pub async fn depths(settings: &Settings) -> Result<Depths, Unknown> {
    let (topology, wire) = reach(settings).await?;
    let counted = count(&topology, &wire).await;
    wire.close().await;
    counted.map_err(|fault| unknown(&fault))
}

/// Deletes all queues and exchanges of this prefix: for tests and `reset`.
pub async fn delete_queues(settings: &Settings) -> Result<(), Unknown> {
    let (topology, wire) = reach(settings).await?;
    let deleted = topology.delete(&wire).await;
    wire.close().await;
    deleted.map_err(|fault| unknown(&fault))
}

/// Declares all queues and exchanges of this prefix, with an account that may: for one who starts the
/// programs with accounts that may not. Harmless to repeat.
pub async fn declare_queues(settings: &Settings) -> Result<(), NotDeclared> {
    let dialer = Dialer::new(&settings.url, "slotrush declaring");
    let failed = |fault: Fault| NotDeclared(fault.to_string());
    let wire = dialer.dial().await.map_err(failed)?;
    let declared = Topology::of(settings).insist_on_all(&dialer, &wire).await;
    wire.close().await;
    declared.map_err(failed)
}

/// Why queues could not be declared.
#[derive(Debug, thiserror::Error)]
#[error("the queues are not declared: {0}")]
pub struct NotDeclared(String);

async fn reach(settings: &Settings) -> Result<(Topology, Wire), Unknown> {
    let dialer = Dialer::new(&settings.url, "slotrush depths");
    let wire = dialer.dial().await.map_err(|fault| unknown(&fault))?;
    Ok((Topology::of(settings), wire))
}

async fn count(topology: &Topology, wire: &Wire) -> Result<Depths, Fault> {
    let channel = wire.channel().await?;
    let mut bookings = Vec::new();
    for partition in topology.partitions().all() {
        bookings.push(Topology::depth(&channel, &topology.bookings_queue(partition)).await?);
    }
    let parking = Topology::depth(&channel, &topology.parking()).await?;
    Ok(Depths { bookings, parking })
}

fn unknown(fault: &Fault) -> Unknown {
    tracing::debug!(%fault, "RabbitMQ can't be asked");
    Unknown
}
