//! The model: a scope and the guards that stand in it.

use crate::action::Action;
use crate::guards::Guards;
use crate::scope::Scope;
use crate::state::{EpochState, Head, Reconciler, SLOTS_MAX, Shelf, State, Term};
use crate::steps::redis::is_same;
use crate::steps::sql::Facts;

/// What is explored.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// The world.
    pub scope: Scope,
    /// The guards.
    pub guards: Guards,
}

/// What a ledger needs next, as the reconciler decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Nothing.
    Sell,
    /// R3.
    Open,
    /// R6.
    Freeze,
    /// R1.
    Renew,
    /// Redis is ahead.
    Wait,
}

impl Protocol {
    /// All guards stand.
    pub fn sound(scope: Scope) -> Self {
        Self { scope, guards: Guards::default() }
    }

    /// What PostgreSQL knows besides its state.
    pub fn facts(&self) -> Facts<'_> {
        Facts { wishes: self.scope.wishes, capacity: self.scope.capacity, guards: &self.guards }
    }

    /// The system at rest: epoch 1 open, its ledger loaded, the replica in step, nobody there yet.
    pub fn initial(&self) -> State {
        self.scope.assert_fits();
        let mut state = State { budget: self.scope.budget, ..State::default() };
        state.nodes[0].term = Term { run: 1, replid: 1 };
        state.nodes[0].is_primary = true;
        state.nodes[1].term = Term { run: 2, replid: 1 };
        state.sql.target = self.scope.capacity;
        (state.next_life, state.next_nonce) = (3, 1);
        for step in [Action::Prepare(0), Action::OpenRow(0), Action::OpenLedger(0)] {
            state = self.after(&State { budget: crate::scope::Budget::ENDLESS, ..state }, step);
        }
        state = self.supply(&state, 0);
        state.nodes[1].data = state.nodes[0].data;
        state.budget = self.scope.budget;
        state
    }

    /// R4 and R5 without anything in between.
    pub fn supply(&self, state: &State, r: u8) -> State {
        let granted = self.after(state, Action::TopUp(r));
        match granted.reconcilers[usize::from(r)] {
            Reconciler::Grants(..) => self.after(&granted, Action::Apply(r)),
            _ => granted,
        }
    }

    /// The node a reconciler speaks to.
    pub fn node_of(&self, state: &State, r: usize) -> usize {
        let (primary, other) = (usize::from(state.primary), usize::from(1 - state.primary));
        let is_astray = self.scope.is_split && r == 1 && state.nodes[other].is_primary;
        if is_astray { other } else { primary }
    }

    /// Decides from PostgreSQL's latest epoch and a look at a node.
    pub fn what_next(&self, state: &State, node: usize) -> Move {
        let node = &state.nodes[node];
        let current = state.sql.current();
        let own = |head: &Head| is_same(head.term, node.term, &self.guards);
        let Some(head) = node.data.head.filter(own) else { return Move::Renew };
        if head.e > current {
            return Move::Wait;
        }
        let open = state.sql.epoch(current).filter(|row| row.state == EpochState::Open);
        let Some(row) = open else { return Move::Renew };
        if !is_same(row.term, head.term, &self.guards) || row.nonce != head.nonce {
            return Move::Renew;
        }
        match (head.e == current, head.shelf == Shelf::Open) {
            (true, true) => Move::Sell,
            (true, false) => Move::Freeze,
            (false, false) => Move::Open,
            (false, true) => Move::Renew,
        }
    }

    /// Tells whether more is set aside or booked than is on offer, and some of it is set aside.
    pub fn has_excess(&self, state: &State) -> bool {
        let sql = &state.sql;
        let Some(row) = sql.epoch(sql.current()) else { return false };
        (0..SLOTS_MAX).any(|slot| {
            sql.booked[slot] + sql.escrowed[slot] > sql.target[slot]
                && row.granted[slot] > row.consumed[slot]
        })
    }

    /// Tells whether a node holds the ledger of the open current epoch.
    pub fn is_true(&self, state: &State, node: usize) -> bool {
        let current = state.sql.current();
        state.sql.epoch(current).is_some_and(|row| {
            row.state == EpochState::Open
                && state.nodes[node].is_true((current, row.nonce, row.term), &self.guards)
        })
    }
}
