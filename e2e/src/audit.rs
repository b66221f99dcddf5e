//! The end of every test: rest, the audit of every invariant, and the conservation of places.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use booking::{PatientId, Reason, SlotId};
use ledger::epoch::EpochState;
use rush::answer::Answer;
use rush::audit::{Audit, Evidence, judge};
use rush::history::{History, Offer};
use testkit::{eventually, unique};
use tokio::time::{Instant, sleep};

use crate::{SOON, System};

/// How often a system that does not add up yet is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a program may take to stop when told to.
const STOP_WITHIN: Duration = Duration::from_secs(15);

impl System {
    /// Waits until nothing moves, then audits: the ledger's own audit finds nothing, each slot's
    /// capacity = booked + left + free, and every id answered "queued" is final as promised.
    pub async fn settle_and_audit(&self) -> Result<Audit> {
        // This holds at any time, also before the rest.
        let broken = self.ledger().audit().await?;
        ensure!(broken.is_empty(), "while moving: {broken:?}");
        let history = self.history();
        let deadline = Instant::now() + SOON;
        loop {
            let within = deadline.saturating_duration_since(Instant::now());
            let stillness = self.probe.settle(within).await;
            let evidence = self.probe.evidence(&self.plan, &history, stillness).await?;
            let audit = judge(&self.plan, &history, &evidence);
            let mut found = audit.violations();
            found.extend(self.unconserved(&evidence).await?);
            if found.is_empty() {
                return Ok(audit);
            }
            if Instant::now() >= deadline {
                bail!("{}\n{}", found.join("\n"), self.complaints());
            }
            // Between the looks at PostgreSQL and at Redis a place may have gone from one to the other.
            sleep(LOOK_EVERY).await;
        }
    }

    /// Audits for the last time, stops everything gracefully and leaves nothing behind.
    pub async fn finish(mut self) -> Result<()> {
        self.settle_and_audit().await?;
        for program in self.gateways.iter().chain(&self.workers) {
            program.terminate();
        }
        for program in self.gateways.iter_mut().chain(&mut self.workers) {
            let status = program.ended(STOP_WITHIN).await?;
            ensure!(status.success(), "{status}");
        }
        broker::delete_queues(&self.queues()).await?;
        self.is_clean = true;
        Ok(())
    }

    /// Lets patients without a place ask again until every place is sold.
    ///
    /// A place that came back by a rejection may have come back after everybody was told that
    /// nothing is left; any other place that is left now should have been sold before.
    pub async fn sell_out(&self) -> Result<()> {
        let rested = eventually("nothing to move", SOON, || async {
            let stillness = self.probe.settle(SOON).await;
            let counts = self.counts().await.ok()?;
            (stillness.restless().is_empty() && counts.free == 0).then_some(counts)
        });
        let counts = rested.await?;
        let unsold = counts.capacity - counts.booked;
        ensure!(unsold <= counts.rejected + counts.cancelled, "unsold though wanted: {counts:?}");
        if unsold == 0 {
            return Ok(());
        }
        let stillness = self.probe.settle(SOON).await;
        let evidence = self.probe.evidence(&self.plan, &self.history(), stillness).await?;
        let live = evidence.rows.iter().filter(|row| row.state.is_live());
        let holders: HashSet<PatientId> = live.map(|row| row.booking.patient).collect();
        let is_placeless = |number: &usize| !holders.contains(&self.members[*number].patient);
        let placeless = (0..self.members.len()).filter(is_placeless);
        let offers = self.plan.offers.iter().cycle();
        for (number, offer) in placeless.zip(offers) {
            let person = self.person(number, 0)?;
            if let Answer::Booking { id, .. } = person.book(offer.slot, &unique()).await {
                person.follow(id).await?;
                let counts = self.counts().await?;
                if counts.booked == counts.capacity {
                    return Ok(());
                }
            }
        }
        bail!("places stay unsold: {:?}", self.counts().await?)
    }

    fn history(&self) -> History {
        let crowd = self.members.iter().map(|member| member.patient).collect();
        let redis_was_lost = self.redis_was_lost;
        History { crowd, events: self.events.all(), redis_was_lost, ..History::default() }
    }

    /// Returns the slots whose places do not add up, from sources that know nothing of each other:
    /// rows, Redis, and the counters and allotments of PostgreSQL.
    async fn unconserved(&self, evidence: &Evidence) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for Offer { slot, capacity } in &self.plan.offers {
            let (granted, consumed) = self.allotment(*slot, evidence).await?;
            let shown = self.shown_left(*slot).await?;
            let rows = evidence.rows.iter().filter(|row| row.booking.slot == *slot);
            let booked = u32::try_from(rows.filter(|row| row.state.is_live()).count())?;
            let counts = evidence.redis.iter().find(|count| count.slot == *slot);
            let left = counts.map_or(0, |count| count.left);
            let free = i64::from(shown) - (i64::from(granted) - i64::from(consumed));
            if i64::from(*capacity) != i64::from(booked) + i64::from(left) + free {
                found.push(format!(
                    "slot {slot}: capacity {capacity} is not booked {booked} + left {left} + free {free}"
                ));
            }
            let sold = counts.map_or(0, |count| count.sold);
            if sold != consumed {
                found.push(format!("slot {slot}: Redis sold {sold}, rows consumed {consumed}"));
            }
        }
        Ok(found)
    }

    /// What the open epoch was granted for a slot, and how many rows used quota of it.
    async fn allotment(&self, slot: SlotId, evidence: &Evidence) -> Result<(u32, u32)> {
        let partition = self.target.partitions.of_slot(slot);
        let epochs = self.ledger().epochs().await?;
        let mut mine = epochs.iter().filter(|row| row.partition == partition);
        let open = mine.find(|row| row.state == EpochState::Open).context("no open epoch")?;
        let grants = self.ledger().grants(partition, open.epoch).await?;
        let granted = grants.iter().find(|grant| grant.slot == slot).map_or(0, |g| g.granted);
        let used = evidence.rows.iter().filter(|row| {
            row.booking.slot == slot
                && row.booking.epoch == open.epoch
                && !matches!(row.reason, Some(Reason::Late | Reason::Lapsed))
        });
        Ok((granted, u32::try_from(used.count())?))
    }

    /// What the public catalogue would show as left, by PostgreSQL's count.
    async fn shown_left(&self, slot: SlotId) -> Result<u32> {
        let session = self.ledger().session(slot.session()).await?.context("the session")?;
        let shown = session.slots.iter().find(|shown| shown.id == slot);
        Ok(shown.context("the slot")?.left)
    }
}
