//! What the worker does, in small: persisting, settling, topping up.

use std::collections::BTreeMap;
use std::time::Duration;

use booking::{Booking, Epoch, Nonce, Partition, SessionId};
use broker::{Delivered, Handler, Verdict};
use inventory::Inventory;
use ledger::Ledger;

/// R4 and R5 for every partition: grants what is free.
pub(crate) async fn top_up(
    ledger: &Ledger,
    inventory: &Inventory,
    nonce: &Nonce,
) -> anyhow::Result<()> {
    for row in ledger.epochs().await? {
        let (partition, epoch) = (row.partition, row.epoch);
        ledger.top_up(partition, epoch).await?;
        let mut sessions: BTreeMap<SessionId, Vec<inventory::Grant>> = BTreeMap::new();
        for grant in ledger.grants(partition, epoch).await? {
            let ledger::epoch::Grant { slot, granted, release } = grant;
            let grants = sessions.entry(slot.session()).or_default();
            grants.push(inventory::Grant { slot, granted, release });
        }
        for (session, grants) in sessions {
            inventory.apply(partition, epoch, nonce, session, &grants, &[]).await?;
        }
    }
    Ok(())
}

/// Persists and settles, as the worker does.
pub(crate) struct Worker {
    pub(crate) ledger: Ledger,
    pub(crate) inventory: Inventory,
}

impl Handler for Worker {
    async fn handle(&mut self, partition: Partition, batch: &[Delivered]) -> Vec<Verdict> {
        let readable = batch.iter().filter_map(|delivered| delivered.message.as_ref().ok());
        let bookings: Vec<Booking> =
            readable.flat_map(|envelope| envelope.bookings.clone()).collect();
        let retry = Verdict::Retry { after: Duration::from_millis(50) };
        let Ok(persisted) = self.ledger.persist(partition, &bookings).await else {
            return vec![retry; batch.len()];
        };
        let settled: Vec<(Booking, bool)> = bookings
            .into_iter()
            .map(|booking| {
                let outcome = persisted.iter().find(|row| row.id == booking.id);
                let is_live = outcome.is_some_and(|row| match row.outcome {
                    ledger::persist::Outcome::Row { state, .. } => state.is_live(),
                    _ => false,
                });
                (booking, is_live)
            })
            .collect();
        let _ = self.inventory.settle(partition, &settled).await;
        vec![Verdict::Ack; batch.len()]
    }

    async fn drained(&mut self, _: Partition, _: Epoch) -> Verdict {
        Verdict::Ack
    }
}
