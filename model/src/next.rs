//! What a step makes of a state.
//!
//! A step that is not possible, or that its guard refuses, changes nothing.

use crate::action::Action;
use crate::protocol::Protocol;
use crate::state::{Data, Message, Node, Shelf, State, Term, bit};
use crate::steps::redis::is_same;

impl Protocol {
    /// The state after a step.
    pub fn after(&self, before: &State, action: Action) -> State {
        let mut state = *before;
        match action {
            Action::Hold { .. }
            | Action::HoldAgain(_)
            | Action::Vouch(_)
            | Action::Publish(_)
            | Action::PublishBoth(..)
            | Action::Return(_)
            | Action::GiveBack(_)
            | Action::Check(_) => self.gateway(&mut state, action),
            Action::Persist(_)
            | Action::PersistWave
            | Action::Silence(_)
            | Action::Park(_)
            | Action::Ack(_)
            | Action::Meet
            | Action::CloseChannel
            | Action::CloseScrambled(_)
            | Action::Nack(_)
            | Action::DeadLetter(_)
            | Action::CancelConsumer(_)
            | Action::StrayReturn => self.worker(&mut state, action),
            Action::Look(r)
            | Action::Prepare(r)
            | Action::OpenRow(r)
            | Action::OpenLedger(r)
            | Action::TopUp(r)
            | Action::Apply(r)
            | Action::FreezeLedger(r)
            | Action::FreezeRow(r)
            | Action::LookOutbox(r, _)
            | Action::Close(r, _)
            | Action::Die(r) => self.reconcile(&mut state, usize::from(r), action),
            Action::Relay(id) => relay(&mut state, id),
            Action::Settle(id) => self.settle(&mut state, id),
            Action::Barrier(e) => state.queue.push(Message::Barrier { e, own: false }),
            Action::Cancel(id) => {
                state.budget.cancels -= 1;
                state.sql.cancel(id, &self.facts(), &mut state.ghost);
            }
            Action::LookLapse(id, node) => self.look_lapse(&mut state, id, node),
            Action::Lapse(id) => {
                state.lapsing &= !bit(id);
                let e = state.ghost.held_in[usize::from(id)];
                state.sql.lapse(id, e, &self.guards, &mut state.ghost);
            }
            Action::ReplayParked(id) => self.replay_parked(&mut state, id),
            Action::Discard(id) => state.sql.parked[usize::from(id)] = None,
            Action::Withdraw => {
                state.budget.withdrawals -= 1;
                state.sql.withdrawn = true;
            }
            Action::Lower => {
                state.budget.lowerings -= 1;
                state.sql.target[0] = (state.sql.target[0] - 1).max(0);
            }
            Action::Flush
            | Action::Restart
            | Action::Sync
            | Action::FailOver
            | Action::Demote
            | Action::LoseQueue
            | Action::Corrupt(_) => self.fault(&mut state, action),
        }
        state
    }

    fn settle(&self, state: &mut State, id: u8) {
        let Some(row) = state.sql.rows[usize::from(id)] else { return };
        let wishes = self.scope.wishes;
        state.redis_mut().settle(id, row.state.is_live(), wishes, &self.guards);
        self.forget_overwritten(state, false);
    }

    /// S1 as a gateway looks: on whichever primary it is connected to, an open ledger of the epoch it
    /// takes for the current one, which is no older than the booking's.
    fn look_lapse(&self, state: &mut State, id: u8, node: u8) {
        let e = state.ghost.held_in[usize::from(id)];
        let Node { term, data, .. } = &state.nodes[usize::from(node)];
        let is_true = data.head.is_some_and(|head| {
            head.shelf == Shelf::Open && is_same(head.term, *term, &self.guards) && head.e >= e
        });
        if e != 0 && (is_true || !self.guards.lapse_needs_ledger) && data.out[usize::from(id)] == 0
        {
            state.budget.lapses -= 1;
            state.lapsing |= bit(id);
        }
    }

    fn replay_parked(&self, state: &mut State, id: u8) {
        let Some(parked) = state.sql.parked[usize::from(id)].filter(|parked| parked.legible) else {
            return;
        };
        if !self.guards.parked_replayed_in_place {
            state.sql.parked[usize::from(id)] = None;
            state.queue.push(envelope(id, parked.e));
        } else if state.sql.persist(id, parked.e, &self.facts(), &mut state.ghost) {
            state.sql.parked[usize::from(id)] = None;
        }
    }

    fn fault(&self, state: &mut State, action: Action) {
        let primary = usize::from(state.primary);
        match action {
            Action::Flush => {
                state.budget.flushes -= 1;
                state.redis_mut().data = Data::default();
            }
            Action::Restart => {
                state.budget.restarts -= 1;
                let (run, replid) = (new_life(state), new_life(state));
                state.redis_mut().term = Term { run, replid };
            }
            Action::Sync | Action::Demote => {
                state.budget.syncs -= 1;
                let Node { term, data, .. } = state.nodes[primary];
                let other = &mut state.nodes[1 - primary];
                other.is_primary = false;
                other.term.replid = term.replid;
                other.data = data;
            }
            Action::FailOver => {
                state.budget.failovers -= 1;
                state.primary = 1 - state.primary;
                let replid = new_life(state);
                let node = state.redis_mut();
                node.is_primary = true;
                node.term.replid = replid;
            }
            Action::LoseQueue => {
                state.budget.queue_losses -= 1;
                state.queue = crate::list::List::default();
            }
            Action::Corrupt(at) => {
                state.budget.corruptions -= 1;
                if let Message::Envelope { legible, .. } =
                    &mut state.queue.items_mut()[usize::from(at)]
                {
                    *legible = false;
                }
            }
            _ => {}
        }
        self.forget_overwritten(state, true);
        keep_in_outbox(state);
    }

    /// Notes which bookings the primary still knows by patient and key. After a loss one that it
    /// does not name is unknown; otherwise only one that another has replaced.
    pub(crate) fn forget_overwritten(&self, state: &mut State, is_loss: bool) {
        for (id, wish) in (0_u8..).zip(self.scope.wishes) {
            let is_known = match state.redis().data.who[usize::from(wish.patient)] {
                Some(who) => who.id == id,
                None => !is_loss,
            };
            if !is_known {
                state.ghost.known &= !bit(id);
            }
        }
    }
}

/// A message of one booking.
pub(crate) fn envelope(id: u8, e: u8) -> Message {
    Message::Envelope { bookings: [Some((id, e)), None], done: [false; 2], legible: true }
}

fn relay(state: &mut State, id: u8) {
    let e = state.redis().data.out[usize::from(id)];
    if e != 0 && state.sql.rows[usize::from(id)].is_none() {
        state.budget.relays -= 1;
        state.queue.push(envelope(id, e));
    }
}

fn keep_in_outbox(state: &mut State) {
    for (id, e) in (0_u8..).zip(state.redis().data.out) {
        if e == 0 && state.sql.rows[usize::from(id)].is_none() {
            state.ghost.kept &= !bit(id);
        }
    }
}

fn new_life(state: &mut State) -> u8 {
    state.next_life += 1;
    state.next_life - 1
}
