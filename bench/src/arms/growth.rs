//! How the rates go with what there is: accepted with a thousand and a million open slots (H1), persisted
//! with a hundred thousand and twenty million rows of slots (H3).

use anyhow::{Result, ensure};

use super::depth::Depth;
use super::size::per;
use super::{CONNECTIONS, RUSH, Rig, round_of};
use crate::load::Outcome;
use crate::world::Bookings;

const SLOTS: u8 = 20;
/// Sessions and places of each of their slots: as many places as a run can use, and no more.
const FEW: (u32, u32) = (50, 1_000);
const MANY: (u32, u32) = (50_000, 10);

/// The arm and the names of its figures.
struct Size {
    arm: &'static str,
    preheat_ms: &'static str,
    slot_bytes: &'static str,
}

impl Rig<'_> {
    /// Plays little, then much: rows that are there stay there, and can't be played by turns.
    pub(super) async fn growth(&mut self, is_wanted: impl Fn(&str) -> bool) -> Result<()> {
        if is_wanted("H3") {
            self.persisted_beside_many_rows().await?;
        }
        if is_wanted("H1") {
            self.accepted_beside_many_slots().await?;
        }
        if is_wanted("streams") {
            self.streams().await?;
        }
        if is_wanted("depth") {
            self.depth(&Depth::LONG).await?;
        }
        if is_wanted("gateways") {
            self.gateways().await?;
        }
        if is_wanted("partitions") {
            self.partitions().await?;
        }
        Ok(())
    }

    async fn persisted_beside_many_rows(&mut self) -> Result<()> {
        self.open_spread().await?;
        self.persisted_of("rows-100k").await?;
        self.world.add_past(self.say).await?;
        self.persisted_of("rows-20m").await?;
        (self.say)("growth: auditing all of them");
        self.world.audit_all().await
    }

    async fn persisted_of(&mut self, arm: &'static str) -> Result<()> {
        for cycle in 0..self.pace.cycles {
            (self.say)(&format!("growth, round {}: {arm}", cycle + 1));
            let work = self.spread_bookings()?;
            let (round, next) = self.pipeline(RUSH, work).await?;
            self.go_on_from(next);
            self.results.add(arm, round);
        }
        Ok(())
    }

    async fn accepted_beside_many_slots(&mut self) -> Result<()> {
        let few = Size { arm: "open-1k", preheat_ms: "preheat_ms-1k", slot_bytes: "slot_bytes-1k" };
        let many =
            Size { arm: "open-1m", preheat_ms: "preheat_ms-1m", slot_bytes: "slot_bytes-1m" };
        // Half of the rounds with few before those with many, and half after: all that books in between is
        // in PostgreSQL, however many slots are open.
        let cycles = self.pace.cycles;
        self.accepted_of(&few, FEW, cycles / 2).await?;
        self.accepted_of(&many, MANY, cycles).await?;
        self.accepted_of(&few, FEW, cycles - cycles / 2).await
    }

    async fn accepted_of(
        &mut self,
        size: &Size,
        (sessions, capacity): (u32, u32),
        cycles: usize,
    ) -> Result<()> {
        (self.say)(&format!("growth: putting {} slots on offer", sessions * u32::from(SLOTS)));
        let before = Self::used_memory(self.world.redis_port()).await?;
        let offer = self.world.offer(sessions, SLOTS, capacity).await?;
        let used = Self::used_memory(self.world.redis_port()).await?.saturating_sub(before);
        self.results.note(size.preheat_ms, offer.preheat_ms);
        self.results.note(size.slot_bytes, per(used, offer.slots.len()));
        self.world.clear_up().await?;
        // To put a million on offer and to take them back takes longer than tokens last.
        self.world.renew_tokens()?;
        self.greet().await?;
        let mut next = 0;
        for cycle in 0..cycles {
            (self.say)(&format!("growth, round {}: {} slots", cycle + 1, offer.slots.len()));
            let after = self.newest().await?;
            let crowd = &self.world.crowd;
            let work = Bookings::new(crowd, "/v1/bookings", &offer.slots, SLOTS.into(), next);
            let parts = self.world.parts();
            let (report, work, costs) =
                self.load(self.world.port, CONNECTIONS, &parts, work).await?;
            next = work.next_number();
            let shed = report.all().shed;
            ensure!(shed == 0, "{shed} were turned away: {}", work.complaint());
            self.balanced(after, report.all().accepted).await?;
            self.results.add(size.arm, round_of(Outcome::Accepted, &report, &costs));
        }
        (self.say)("growth: taking them back");
        self.world.withdraw(offer).await
    }
}
