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

/// A completion under way.
struct Completion<'a> {
    protocol: &'a Protocol,
    state: State,
    /// Steps that changed something, if they are wanted.
    steps: Option<Vec<Action>>,
}

impl Protocol {
    /// Runs a state to its rest; names what is not as it should be there.
    pub fn unfinished(&self, state: &State) -> Option<&'static str> {
        let rest = Completion::of(self, state, None).run().state;
        self.broken(&rest).or_else(|| self.missing(&rest))
    }

    /// The steps of the fair completion of a state, after everybody died who may.
    pub fn completion(&self, state: &State) -> Vec<Action> {
        Completion::of(self, state, Some(Vec::new())).run().steps.unwrap_or_default()
    }

    /// Everybody who may die, dead: every task of a gateway, every reconciler.
    pub fn abandoned(&self, state: &State) -> State {
        let mut state = State { budget: Budget::ENDLESS, ..*state };
        state.requests = state.requests.map(|request| match request {
            Request::Refused => Request::Refused,
            _ => Request::Done,
        });
        state.reconcilers = [Reconciler::Idle; 2];
        state.lapsing = 0;
        state
    }

    fn missing(&self, rest: &State) -> Option<&'static str> {
        let mut rows = (0_u8..).zip(&rest.sql.rows);
        if rows.any(|(id, row)| rest.ghost.queued & bit(id) != 0 && row.is_none()) {
            return Some("I3");
        }
        let mut old = rest.sql.epochs.items().iter().rev().skip(1);
        let is_open = self.is_true(rest, usize::from(rest.primary));
        if old.any(|row| row.state != EpochState::Closed) || !is_open {
            return Some("ENDS");
        }
        let is_whole = |slot: usize| {
            let left = rest.redis().data.slots[slot].left;
            let booked = rest.sql.booked[slot];
            let offered = rest.sql.target[slot].max(booked);
            let due = if rest.sql.withdrawn { booked + left } else { offered };
            booked + left == due && rest.sql.escrowed[slot] == left
        };
        (!(0..SLOTS_MAX).all(is_whole)).then_some("I6")
    }
}

impl<'a> Completion<'a> {
    fn of(protocol: &'a Protocol, state: &State, steps: Option<Vec<Action>>) -> Self {
        Self { protocol, state: protocol.abandoned(state), steps }
    }

    fn take(&mut self, action: Action) {
        let after = self.protocol.after(&self.state, action);
        if let Some(steps) = self.steps.as_mut().filter(|_| after != self.state) {
            steps.push(action);
        }
        self.state = State { budget: Budget::ENDLESS, ..after };
    }

    fn run(mut self) -> Self {
        if !self.state.stray.is_empty() {
            self.take(Action::StrayReturn);
        }
        if self.state.nodes[usize::from(1 - self.state.primary)].is_primary {
            self.take(Action::Demote);
        }
        for _ in 0..ROUNDS_MAX {
            let before = self.state;
            self.round();
            if self.state == before {
                break;
            }
        }
        self
    }

    fn round(&mut self) {
        self.consume();
        for id in self.ids() {
            let has_row = self.state.sql.rows[usize::from(id)].is_some();
            if has_row {
                self.take(Action::Settle(id));
            }
            match self.state.sql.parked[usize::from(id)] {
                Some(parked) if parked.legible => self.take(Action::ReplayParked(id)),
                Some(_) if has_row => self.take(Action::Discard(id)),
                Some(_) | None => {}
            }
        }
        self.reconcile();
        for id in self.ids() {
            self.take(Action::Relay(id));
        }
        for e in 1..=self.state.sql.current() {
            let is_drained = self.state.sql.epoch(e).is_some_and(|row| row.drained);
            if self.state.sql.is(e, EpochState::Sealed) && !is_drained {
                self.take(Action::Barrier(e));
            }
        }
    }

    fn ids(&self) -> std::ops::Range<u8> {
        0..u8::try_from(self.protocol.scope.wishes.len()).unwrap_or(0)
    }

    fn consume(&mut self) {
        while let Some(message) = self.state.queue.items().first() {
            self.take(match message {
                Message::Barrier { .. } => Action::Meet,
                Message::Envelope { .. } if is_done(message) => Action::Ack(0),
                Message::Envelope { .. } => Action::Persist(0),
            });
        }
    }

    fn reconcile(&mut self) {
        let next = self.what_next();
        if next == Move::Open {
            self.take(Action::OpenLedger(0));
        }
        if next == Move::Freeze || (next == Move::Sell && self.protocol.has_excess(&self.state)) {
            self.take(Action::FreezeLedger(0));
            self.take(Action::FreezeRow(0));
        }
        if self.what_next() == Move::Renew {
            self.take(Action::Prepare(0));
            self.take(Action::OpenRow(0));
            self.take(Action::OpenLedger(0));
        }
        if self.what_next() == Move::Sell {
            if self.protocol.would_supply(&self.state, 0) {
                self.take(Action::TopUp(0));
                self.take(Action::Apply(0));
            }
            for e in self.protocol.closable(&self.state, usize::from(self.state.primary)) {
                self.take(Action::Close(0, e));
            }
        }
        self.state.reconcilers = [Reconciler::Idle; 2];
    }

    fn what_next(&self) -> Move {
        self.protocol.what_next(&self.state, usize::from(self.state.primary))
    }
}
