//! One walk over everything: the ledger in PostgreSQL, then the places in Redis.

use booking::{Partition, SlotId};
use ledger::audit::{Part, Violation};

use super::places;
use super::rest::{self, Rest};
use crate::Servers;
use crate::reconcile::Error;

/// Violations that are kept: a broken ledger must not fill memory.
const FOUND_MAX: usize = 1_000;

/// How far a pass has come, and what it found.
#[derive(Debug)]
pub struct Pass {
    stage: Stage,
    found: Vec<Violation>,
    at_rest: u32,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Ledger(Part),
    Places(Place),
}

/// The slots of a partition from one on.
#[derive(Clone, Copy, Debug)]
struct Place {
    partition: Partition,
    first: SlotId,
    /// Whether it was at rest whenever it was looked at in this pass.
    is_at_rest: bool,
}

impl Place {
    fn of(partition: Partition) -> Self {
        Self { partition, first: SlotId::from(0), is_at_rest: true }
    }
}

impl Pass {
    pub(super) const fn begin() -> Self {
        Self { stage: Stage::Ledger(Part::FIRST), found: Vec::new(), at_rest: 0 }
    }

    /// What was found so far.
    pub(super) fn found(&self) -> &[Violation] {
        &self.found
    }

    /// Partitions that were at rest.
    pub(super) const fn at_rest(&self) -> u32 {
        self.at_rest
    }

    /// Judges the next part; tells whether it was the last one. After an error nothing was judged.
    pub(super) async fn step(
        &mut self,
        servers: &Servers,
        rows: u32,
        rest: &mut Rest,
    ) -> Result<bool, Error> {
        let next = match self.stage {
            Stage::Ledger(part) => {
                let audited = servers.ledger.audit_part(part, rows).await?;
                self.add(audited.violations);
                let first = servers.partitions().all().next();
                audited.next.map(Stage::Ledger).or(first.map(Place::of).map(Stage::Places))
            }
            Stage::Places(place) => self.look(servers, place, rest).await?.map(Stage::Places),
        };
        let Some(next) = next else { return Ok(true) };
        self.stage = next;
        Ok(false)
    }

    /// I11, and what I6 has to be asked for again, at some sessions of a partition.
    async fn look(
        &mut self,
        servers: &Servers,
        place: Place,
        rest: &mut Rest,
    ) -> Result<Option<Place>, Error> {
        let Place { partition, first, mut is_at_rest } = place;
        let state = rest::state(servers, partition).await?;
        // Another epoch than at the look before is as good: what it has at the slots before is looked
        // at by the next pass.
        let mut next = None;
        if let Some(epoch) = state.epoch {
            let look = places::look(servers, partition, epoch, first).await?;
            self.add(look.unconserved);
            if state.is_at_rest {
                rest.suspect(look.unequal);
            }
            next = look.next;
        }
        is_at_rest &= state.is_at_rest;
        if let Some(first) = next {
            return Ok(Some(Place { partition, first, is_at_rest }));
        }
        self.at_rest += u32::from(is_at_rest);
        Ok(servers.partitions().all().find(|other| *other > partition).map(Place::of))
    }

    fn add(&mut self, violations: Vec<Violation>) {
        let room = FOUND_MAX.saturating_sub(self.found.len());
        self.found.extend(violations.into_iter().take(room));
    }
}
