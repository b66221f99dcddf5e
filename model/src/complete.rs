//! A fair completion: nothing more goes wrong, and everybody who is not dead does their work.
//!
//! Every client and gateway dies first, so that nothing is finished by those who might be gone:
//! what was promised must come true by the relay, the worker and the reconciler alone.

use crate::action::Action;
use crate::consuming::is_done;
use crate::protocol::{Move, Protocol};
use crate::scope::Budget;
use crate::state::{EpochState, Message, Reconciler, Request, SLOTS_MAX, State, bit};

/// Rounds until everything must be at rest.
const ROUNDS_MAX: usize = 12;

impl Protocol {
    /// Runs a state to its rest; names what is not as it should be there.
    pub fn unfinished(&self, state: &State) -> Option<&'static str> {
        let rest = self.completed(state);
        self.broken(&rest).or_else(|| self.missing(&rest))
    }

    /// The state at rest after a fair completion.
    pub fn completed(&self, state: &State) -> State {
        let mut state = self.abandoned(state);
        for _ in 0..ROUNDS_MAX {
            let before = state;
            self.round(&mut state);
            // Every round spends numbers and budget that nobody minds.
            state.budget = before.budget;
            if state == before {
                break;
            }
        }
        state
    }

    /// Everybody who may die, dead; every former primary, demoted.
    pub fn abandoned(&self, state: &State) -> State {
        let mut state = State { budget: Budget::ENDLESS, ..*state };
        state.requests = state.requests.map(|request| match request {
            Request::Refused => Request::Refused,
            _ => Request::Done,
        });
        state.reconcilers = [Reconciler::Idle; 2];
        if !state.stray.is_empty() {
            state = self.after(&state, Action::StrayReturn);
        }
        self.after(&state, Action::Demote)
    }

    fn round(&self, state: &mut State) {
        self.consume_all(state);
        for id in (0_u8..).take(self.scope.wishes.len()) {
            if state.sql.rows[usize::from(id)].is_some() {
                *state = self.after(state, Action::Settle(id));
            }
            let Some(parked) = state.sql.parked[usize::from(id)] else { continue };
            if parked.legible {
                *state = self.after(state, Action::ReplayParked(id));
            } else if state.sql.rows[usize::from(id)].is_some() {
                *state = self.after(state, Action::Discard(id));
            }
        }
        self.reconcile_all(state);
        for id in (0_u8..).take(self.scope.wishes.len()) {
            *state = self.after(state, Action::Relay(id));
        }
        for (e, row) in (1_u8..).zip(state.sql.epochs.items().to_vec()) {
            if row.state == EpochState::Sealed && !row.drained {
                *state = self.after(state, Action::Barrier(e));
            }
        }
        state.budget = Budget::ENDLESS;
    }

    fn consume_all(&self, state: &mut State) {
        while let Some(message) = state.queue.items().first() {
            let action = match message {
                Message::Barrier { .. } => Action::Meet,
                Message::Envelope { .. } if is_done(message) => Action::Ack(0),
                Message::Envelope { .. } => Action::Persist(0),
            };
            *state = self.after(state, action);
        }
    }

    fn reconcile_all(&self, state: &mut State) {
        match self.what_next(state) {
            Move::Sell | Move::Wait => {}
            Move::Open => *state = self.after(state, Action::OpenLedger(0)),
            Move::Freeze => self.take(state, &[Action::FreezeLedger(0), Action::FreezeRow(0)]),
            Move::Renew => {}
        }
        if self.what_next(state) == Move::Renew {
            let renew = [Action::Prepare(0), Action::OpenRow(0), Action::OpenLedger(0)];
            self.take(state, &renew);
        }
        if self.what_next(state) == Move::Sell {
            *state = self.supply(state, 0);
            for e in self.closable(state) {
                *state = self.after(state, Action::Close(0, e));
            }
        }
        state.reconcilers = [Reconciler::Idle; 2];
    }

    fn take(&self, state: &mut State, actions: &[Action]) {
        for action in actions {
            *state = self.after(state, *action);
        }
    }

    fn missing(&self, rest: &State) -> Option<&'static str> {
        let rows = (0_u8..).zip(&rest.sql.rows);
        if rows.into_iter().any(|(id, row)| rest.ghost.queued & bit(id) != 0 && row.is_none()) {
            return Some("I3");
        }
        let old = rest.sql.epochs.items().iter().rev().skip(1);
        if old.into_iter().any(|row| row.state != EpochState::Closed) || !self.is_true(rest) {
            return Some("ENDS");
        }
        let is_whole = |slot: usize| {
            let left = rest.redis().data.slots[slot].left;
            let booked = rest.sql.booked[slot];
            let due = if rest.sql.withdrawn { booked + left } else { self.scope.capacity[slot] };
            booked + left == due && rest.sql.escrowed[slot] == left
        };
        (!(0..SLOTS_MAX).all(is_whole)).then_some("I6")
    }
}
