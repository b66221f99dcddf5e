//! What reconcilers do: steps R1 to R6 and R9.

use crate::action::Action;
use crate::protocol::{Move, Protocol};
use crate::state::{EpochState, Reconciler, SLOTS_MAX, State, bit};

impl Protocol {
    /// Takes a step of a reconciler.
    pub(crate) fn reconcile(&self, state: &mut State, r: usize, action: Action) {
        let was = std::mem::take(&mut state.reconcilers[r]);
        let node = self.node_of(state, r);
        let current = state.sql.current();
        let sealed = !state.sql.is(current, EpochState::Open);
        state.reconcilers[r] = match (action, was) {
            (Action::Look(_), _) => Reconciler::Looked(current, sealed),
            (Action::Prepare(_), Reconciler::Looked(e, sealed)) => {
                self.prepare(state, node, e, sealed)
            }
            (Action::Prepare(_), _) => self.prepare(state, node, current, sealed),
            (Action::OpenRow(_), Reconciler::Shell(e, nonce, term)) => {
                let opened = state.sql.open_epoch(e, term, nonce, &self.facts());
                opened.map_or(Reconciler::Idle, |e| Reconciler::Opened(e, nonce, term))
            }
            (Action::OpenLedger(_), Reconciler::Opened(e, nonce, term)) => {
                state.nodes[node].open(e, term, nonce, &self.guards);
                Reconciler::Idle
            }
            (Action::OpenLedger(_), _) => {
                if let Some(row) = state.sql.epoch(current).copied().filter(|_| !sealed) {
                    state.nodes[node].open(current, row.term, row.nonce, &self.guards);
                }
                Reconciler::Idle
            }
            (Action::TopUp(_), _) => self.top_up(state),
            (Action::Apply(_), Reconciler::Grants(e, nonce, granted, live)) => {
                let wishes = self.scope.wishes;
                state.nodes[node].apply((e, nonce), granted, live, wishes, &self.guards);
                Reconciler::Idle
            }
            (Action::FreezeLedger(_), _) => self.freeze(state, node),
            (Action::FreezeRow(_), Reconciler::Frozen(e, sold)) => {
                state.sql.freeze(e, sold);
                Reconciler::Idle
            }
            (Action::LookOutbox(_, e), _) => Reconciler::Clear(e),
            (Action::Close(_, e), _) => {
                state.sql.close(e, &self.guards);
                Reconciler::Idle
            }
            (Action::Die(_), _) => {
                state.budget.deaths -= 1;
                Reconciler::Idle
            }
            _ => Reconciler::Idle,
        };
    }

    /// R1, with what was read before.
    fn prepare(&self, state: &mut State, node: usize, e: u8, sealed: bool) -> Reconciler {
        let nonce = state.next_nonce;
        state.budget.prepares -= 1;
        if !state.nodes[node].prepare(nonce, e, sealed, &self.guards) {
            return Reconciler::Idle;
        }
        state.next_nonce += 1;
        Reconciler::Shell(e, nonce, state.nodes[node].term)
    }

    /// R4, and what R5 needs.
    fn top_up(&self, state: &mut State) -> Reconciler {
        let current = state.sql.current();
        let before = state.sql.epoch(current).map_or([0; SLOTS_MAX], |row| row.granted);
        state.sql.top_up(&self.facts());
        let open = state.sql.epoch(current).filter(|row| row.state == EpochState::Open);
        let rows = (0_u8..).zip(&state.sql.rows);
        let live = rows.filter(|(_, row)| row.is_some_and(|row| row.state.is_live()));
        let live = live.fold(0, |mask, (id, _)| mask | bit(id));
        open.map_or(Reconciler::Idle, |row| {
            let mut granted = row.granted;
            if !self.guards.grants_cumulative {
                granted.iter_mut().zip(before).for_each(|(now, before)| *now -= before);
            }
            Reconciler::Grants(current, row.nonce, granted, live)
        })
    }

    /// R6 in Redis, planned or taken up.
    fn freeze(&self, state: &mut State, node: usize) -> Reconciler {
        if self.what_next(state, node) == Move::Sell && !self.has_excess(state) {
            state.budget.freezes -= 1;
        }
        let current = state.sql.current();
        let nonce = state.sql.epoch(current).map_or(0, |row| row.nonce);
        let sold = state.nodes[node].freeze(current, nonce, &self.guards);
        sold.map_or(Reconciler::Idle, |sold| Reconciler::Frozen(current, sold))
    }
}
