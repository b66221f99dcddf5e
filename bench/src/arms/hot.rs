//! One slot that everybody wants, guarded in five ways.

use anyhow::{Result, ensure};
use booking::{SessionId, SlotId};

use super::{RUSH, Rig, round_of};
use crate::load::Outcome;
use crate::world::{Bookings, Parts};

/// The usual ways, by arm: what guards the slot, and their path.
pub(super) const WAYS: [(&str, &str); 4] = [
    ("memory", "/memory/v1/bookings"),
    ("locked", "/locked/v1/bookings"),
    ("B2", "/naive/v1/bookings"),
    ("B3", "/tuned/v1/bookings"),
];

impl Rig<'_> {
    /// Plays the five ways.
    pub(super) async fn hot(&mut self) -> Result<()> {
        let slot = [SlotId::of(SessionId::from(1), 0)];
        for cycle in 0..self.pace.cycles {
            (self.say)(&format!("hot, round {}: one slot in five ways", cycle + 1));
            for arm in Self::order(cycle, WAYS.len() + 1) {
                if let Some((name, path)) = WAYS.get(arm) {
                    self.other.prepare(1, 1).await?;
                    self.usual(name, path, &slot, 1).await?;
                } else {
                    let offer = self.hot_slot().await?;
                    let crowd = &self.world.crowd;
                    let work = Bookings::new(crowd, "/v1/bookings", &offer.slots, 1, 0);
                    let (round, _) = self.pipeline(RUSH, work).await?;
                    self.results.add("pipeline", round);
                }
            }
        }
        Ok(())
    }

    /// One round of a usual way; the tables must balance.
    pub(super) async fn usual(
        &mut self,
        arm: &'static str,
        path: &'static str,
        slots: &[SlotId],
        slots_per_session: usize,
    ) -> Result<()> {
        let work = Bookings::new(&self.world.crowd, path, slots, slots_per_session, 0);
        let parts: Parts =
            vec![("direct", self.other.pid()), ("postgres", self.world.postgres_pid())];
        let (report, _, costs) = self.load(self.other.port, RUSH, &parts, work).await?;
        let (told, booked) = (report.all().accepted, self.other.booked().await?);
        ensure!(told == booked, "{arm}: {booked} appointments, {told} were told of one");
        self.results.add(arm, round_of(Outcome::Accepted, &report, &costs));
        Ok(())
    }
}
