//! A hundred thousand slots, each wanted by few.

use anyhow::Result;
use booking::{SessionId, SlotId};

use super::hot::WAYS;
use super::size::per;
use super::{RUSH, Rig};
use crate::world::Bookings;

/// Sessions, and slots of each: 100,000 in all.
pub(super) const SESSIONS: u32 = 5_000;
pub(super) const SLOTS: u8 = 20;
/// Places of each.
const CAPACITY: u32 = 200;

impl Rig<'_> {
    /// Plays B2, B3 and the pipeline.
    pub(super) async fn spread(&mut self) -> Result<()> {
        let slots: Vec<SlotId> = (1..=i64::from(SESSIONS))
            .flat_map(|session| (0..SLOTS).map(move |n| SlotId::of(SessionId::from(session), n)))
            .collect();
        self.open_spread().await?;
        for cycle in 0..self.pace.cycles {
            (self.say)(&format!("spread, round {}: 100,000 slots", cycle + 1));
            for arm in Self::order(cycle, 3) {
                match arm {
                    0 | 1 => {
                        let (name, path) = WAYS[2 + arm];
                        let name = if name == "B2" { "B2-spread" } else { "B3-spread" };
                        self.other.prepare(SESSIONS, u32::from(SLOTS)).await?;
                        self.usual(name, path, &slots, usize::from(SLOTS)).await?;
                    }
                    _ => {
                        let work = self.spread_bookings()?;
                        let (round, next) = self.pipeline(RUSH, work).await?;
                        self.go_on_from(next);
                        self.results.add("pipeline-spread", round);
                    }
                }
            }
        }
        Ok(())
    }

    /// Puts the slots on offer, once, and notes what they take in Redis.
    pub(super) async fn open_spread(&mut self) -> Result<()> {
        if self.spread.is_some() {
            return Ok(());
        }
        (self.say)("putting 100,000 slots on offer");
        self.world.rest().await?;
        let before = Self::used_memory(self.world.redis_port()).await?;
        let offer = self.world.offer(SESSIONS, SLOTS, CAPACITY).await?;
        let after = Self::used_memory(self.world.redis_port()).await?;
        let slots = offer.slots.len();
        self.results.note("slot_bytes", per(after.saturating_sub(before), slots));
        let of_keys = self.bytes_of_keys(slots).await?;
        self.results.note("key_bytes", of_keys);
        self.results.note("preheat_ms", offer.preheat_ms);
        self.spread = Some((offer, 0));
        Ok(())
    }

    /// Everybody goes on asking for those slots.
    pub(super) fn spread_bookings(&self) -> Result<Bookings> {
        let (offer, next) = self.spread.as_ref().ok_or_else(|| anyhow::anyhow!("not on offer"))?;
        let (crowd, slots) = (&self.world.crowd, &offer.slots);
        Ok(Bookings::new(crowd, "/v1/bookings", slots, usize::from(SLOTS), *next))
    }

    pub(super) fn go_on_from(&mut self, next: usize) {
        if let Some((_, number)) = &mut self.spread {
            *number = next;
        }
    }
}
