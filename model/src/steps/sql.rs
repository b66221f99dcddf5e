//! The steps PostgreSQL takes, as the functions in `migrations/0002_steps.sql`, or their later versions, take them.

use booking::rules::{Held, Limits};
use booking::{Reason, State as RowState};

use crate::guards::Guards;
use crate::scope::Wish;
use crate::state::{EpochRow, EpochState, Ghost, Parked, Row, SLOTS_MAX, Sql, Term};

/// What the tables hold besides: who asked for what, how many places there are, which guards stand.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Requests by id.
    pub wishes: &'a [Wish],
    /// Places by slot.
    pub capacity: [i8; SLOTS_MAX],
    /// Guards.
    pub guards: &'a Guards,
}

/// The limit in the model: a patient over it holds one booking on that day elsewhere.
const LIMITS: Limits =
    Limits { per_day_max: Some(1), per_department_day_max: None, per_week_max: None };

/// What came of judging a booking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It has its row, of the same epoch.
    Known,
    /// Another booking has its id.
    Conflict,
    /// It gets its row, rejected if for a reason.
    Fresh(Option<Reason>),
}

impl Sql {
    /// W1, W2: judges and writes; false if a constraint refused.
    pub fn persist(&mut self, id: u8, e: u8, facts: &Facts<'_>, ghost: &mut Ghost) -> bool {
        match self.judge(id, e, facts) {
            Judged::Known => true,
            Judged::Conflict => false,
            Judged::Fresh(reason) => self.write(id, e, reason, facts, ghost),
        }
    }

    /// Judges a booking by what is there now.
    pub fn judge(&self, id: u8, e: u8, facts: &Facts<'_>) -> Judged {
        if let Some(row) = self.rows[usize::from(id)] {
            return if row.e == e { Judged::Known } else { Judged::Conflict };
        }
        let wish = facts.wishes[usize::from(id)];
        let others = || {
            let rows = facts.wishes.iter().zip(&self.rows);
            let mine = rows.filter(|(other, _)| other.patient == wish.patient);
            mine.filter_map(|(other, row)| Some((other, (*row)?)))
        };
        let is_live = |(_, row): (&Wish, Row)| row.state.is_live();
        let stands =
            |(other, row): (&Wish, Row)| other.key == wish.key && row.state != RowState::Rejected;
        let held = Held { day: u16::from(wish.over_limit), ..Held::default() };
        Judged::Fresh(if self.is(e, EpochState::Closed) {
            Some(Reason::Late)
        } else if self.withdrawn {
            Some(Reason::Withdrawn)
        } else if others().any(stands) {
            Some(Reason::Superseded)
        } else if others().any(is_live) {
            Some(Reason::AlreadyBooked)
        } else if LIMITS.is_reached(held) {
            Some(Reason::LimitReached)
        } else {
            None
        })
    }

    /// Writes a row and its counters, all or nothing; false if a constraint refused.
    pub fn write(
        &mut self,
        id: u8,
        e: u8,
        reason: Option<Reason>,
        facts: &Facts<'_>,
        ghost: &mut Ghost,
    ) -> bool {
        if !facts.guards.key_unique_standing && self.has_dead_key(id, facts) {
            return false;
        }
        let before = *self;
        let state = if reason.is_none() { RowState::Booked } else { RowState::Rejected };
        self.set_row(id, Row { state, reason, e }, ghost);
        let is_counted = match reason {
            Some(Reason::Late) => false,
            Some(_) => facts.guards.rejection_consumes,
            None => true,
        };
        if is_counted {
            self.count(id, e, reason.is_none(), facts);
            if !self.obeys_checks(e, facts) {
                ghost.check_fired = true;
                if facts.guards.checks {
                    *self = before;
                    return false;
                }
            }
        }
        true
    }

    /// Adds one to what an epoch consumed, and to `booked` for a winner.
    pub fn count(&mut self, id: u8, e: u8, won: bool, facts: &Facts<'_>) {
        let slot = usize::from(facts.wishes[usize::from(id)].slot);
        if let Some(epoch) = self.epoch_mut(e) {
            epoch.consumed[slot] += 1;
        }
        self.escrowed[slot] -= 1;
        self.booked[slot] += i8::from(won);
    }

    /// Tells whether the CHECK constraints hold.
    pub fn obeys_checks(&self, e: u8, facts: &Facts<'_>) -> bool {
        (0..SLOTS_MAX).all(|slot| {
            let (booked, escrowed) = (self.booked[slot], self.escrowed[slot]);
            booked >= 0
                && escrowed >= 0
                && booked + escrowed <= facts.capacity[slot]
                && self.epoch(e).is_none_or(|row| row.consumed[slot] <= row.granted[slot])
        })
    }

    fn has_dead_key(&self, id: u8, facts: &Facts<'_>) -> bool {
        let wish = facts.wishes[usize::from(id)];
        facts.wishes.iter().zip(&self.rows).any(|(other, row)| {
            row.is_some_and(|row| row.state == RowState::Rejected)
                && (other.patient, other.key) == (wish.patient, wish.key)
        })
    }

    fn set_row(&mut self, id: u8, row: Row, ghost: &mut Ghost) {
        let old = self.rows[usize::from(id)].replace(row);
        ghost.illegal |= old.is_some_and(|old| !old.state.may_become(row.state));
        let is_forgotten = matches!(row.reason, Some(Reason::Late | Reason::Lapsed));
        ghost.kept_lost |= is_forgotten && ghost.kept & (1 << id) != 0;
    }

    fn grant_free(&mut self, facts: &Facts<'_>) {
        if self.withdrawn {
            return;
        }
        let current = self.current();
        for slot in 0..SLOTS_MAX {
            let offer = self.target[slot].min(facts.capacity[slot]);
            let free = offer - self.booked[slot] - self.escrowed[slot];
            if free > 0 {
                self.escrowed[slot] += free;
                if let Some(epoch) = self.epoch_mut(current) {
                    epoch.granted[slot] += free;
                }
            }
        }
    }

    /// R2: seals the current epoch and opens the next; `None` if somebody else was first.
    pub fn open_epoch(
        &mut self,
        current: u8,
        term: Term,
        nonce: u8,
        facts: &Facts<'_>,
    ) -> Option<u8> {
        if self.current() != current && facts.guards.open_compares {
            return None;
        }
        if let Some(epoch) = self.epoch_mut(current).filter(|row| row.state == EpochState::Open) {
            epoch.state = EpochState::Sealed;
        }
        self.epochs.push(EpochRow { term, nonce, ..EpochRow::default() });
        // Where R4 tells only what it has just granted, nobody else may grant.
        if facts.guards.grants_cumulative {
            self.grant_free(facts);
        }
        Some(self.current())
    }

    /// R4: grants what is free to the current epoch, if it is open.
    pub fn top_up(&mut self, facts: &Facts<'_>) {
        if self.is(self.current(), EpochState::Open) {
            self.grant_free(facts);
        }
    }

    /// R6: seals an epoch with what was sold, and takes the unsold back.
    pub fn freeze(&mut self, e: u8, sold: [i8; SLOTS_MAX]) {
        let Some(epoch) = self.epoch_mut(e).filter(|row| row.state == EpochState::Open) else {
            return;
        };
        let is_sound =
            |slot: usize| (epoch.consumed[slot]..=epoch.granted[slot]).contains(&sold[slot]);
        if !(0..SLOTS_MAX).all(is_sound) {
            return;
        }
        let granted = std::mem::replace(&mut epoch.granted, sold);
        (epoch.state, epoch.frozen) = (EpochState::Sealed, true);
        for slot in 0..SLOTS_MAX {
            self.escrowed[slot] -= granted[slot] - sold[slot];
        }
    }

    /// W6: the epoch's barrier came through. Of an open epoch it means nothing.
    pub fn record_drained(&mut self, e: u8) {
        if let Some(epoch) = self.epoch_mut(e).filter(|row| row.state != EpochState::Open) {
            epoch.drained = true;
        }
    }

    /// R9: takes back what a sealed epoch did not use; false if it may not be closed.
    pub fn close(&mut self, e: u8, guards: &Guards) -> bool {
        let is_parked = self.parked.iter().flatten().any(|parked| parked.e == e);
        let Some(epoch) = self.epoch_mut(e).filter(|row| row.state == EpochState::Sealed) else {
            return false;
        };
        let is_used_up = epoch.frozen && epoch.consumed == epoch.granted;
        if !(epoch.drained || is_used_up) || (is_parked && guards.close_minds_parked) {
            return false;
        }
        epoch.state = EpochState::Closed;
        let EpochRow { granted, consumed, .. } = *epoch;
        for slot in 0..SLOTS_MAX {
            self.escrowed[slot] -= granted[slot] - consumed[slot];
        }
        true
    }

    /// Sets a booking aside. The first time stays.
    pub fn park(&mut self, id: u8, e: u8, legible: bool) {
        self.parked[usize::from(id)].get_or_insert(Parked { e, legible });
    }

    /// C1: gives a live booking back.
    pub fn cancel(&mut self, id: u8, facts: &Facts<'_>, ghost: &mut Ghost) {
        let live = self.rows[usize::from(id)].filter(|row| row.state.is_live());
        let Some(row) = live else { return };
        self.set_row(id, Row { state: RowState::Cancelled, ..row }, ghost);
        self.booked[usize::from(facts.wishes[usize::from(id)].slot)] -= 1;
    }

    /// S1: ends a pending booking that nothing holds any more.
    pub fn lapse(&mut self, id: u8, e: u8, guards: &Guards, ghost: &mut Ghost) {
        let is_sealed = self.epochs.items().iter().any(|row| row.state == EpochState::Sealed);
        if !(is_sealed && guards.lapse_waits) && self.rows[usize::from(id)].is_none() {
            let (state, reason) = (RowState::Rejected, Some(Reason::Lapsed));
            self.set_row(id, Row { state, reason, e }, ghost);
        }
    }
}
