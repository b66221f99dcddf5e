//! What a step makes of a state.
//!
//! A step that is not possible, or that its guard refuses, changes nothing.

use crate::action::Action;
use crate::protocol::{Move, Protocol};
use crate::state::{EpochState, Message, Node, Reconciler, Request, State, Term, bit};
use crate::steps::redis::Hold;

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
            | Action::Nack(_)
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
            Action::Lapse(id) => self.lapse(&mut state, id),
            Action::ReplayParked(id) => self.replay_parked(&mut state, id),
            Action::Discard(id) => state.sql.parked[usize::from(id)] = None,
            Action::Withdraw => {
                state.budget.withdrawals -= 1;
                state.sql.withdrawn = true;
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

    fn lapse(&self, state: &mut State, id: u8) {
        let e = state.ghost.held_in[usize::from(id)];
        let is_out = state.redis().data.out[usize::from(id)] != 0;
        if e == 0 || is_out || self.what_next(state, usize::from(state.primary)) != Move::Sell {
            return;
        }
        state.budget.lapses -= 1;
        state.sql.lapse(id, e, &mut state.ghost);
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
                state.redis_mut().data = crate::state::Data::default();
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

    fn gateway(&self, state: &mut State, action: Action) {
        match action {
            Action::Hold { request, node } => self.hold(state, request, node),
            Action::HoldAgain(r) => {
                let primary = usize::from(state.primary);
                let held = state.nodes[primary].hold(r, self.scope.wishes, &self.guards);
                if let Hold::Held { e } = held {
                    state.requests[usize::from(r)] = Request::Held(r, e);
                    state.ghost.held_in[usize::from(r)] = e;
                }
            }
            Action::Vouch(r) => {
                let Request::Held(id, e) = state.requests[usize::from(r)] else { return };
                let is_open = state.sql.is(e, EpochState::Open);
                state.requests[usize::from(r)] =
                    if is_open { Request::Vouched(id, e) } else { Request::Done };
            }
            Action::Publish(r) => self.publish(state, &[r]),
            Action::PublishBoth(a, b) => self.publish(state, &[a, b]),
            Action::Return(r) => {
                let Request::Held(id, e) = state.requests[usize::from(r)] else { return };
                state.budget.returns -= 1;
                state.requests[usize::from(r)] = if self.guards.returned_is_unknown {
                    Request::Done
                } else {
                    Request::Confirmed(id, e)
                };
            }
            Action::GiveBack(r) => self.give_back(state, r),
            Action::Check(r) => {
                let Request::Confirmed(id, e) = state.requests[usize::from(r)] else { return };
                let is_good = state.sql.is(e, EpochState::Open)
                    || (!self.guards.check_not_sealed && state.sql.is(e, EpochState::Sealed))
                    || !self.guards.check;
                state.requests[usize::from(r)] = Request::Done;
                state.ghost.queued |= if is_good { bit(id) } else { 0 };
            }
            _ => {}
        }
    }

    fn hold(&self, state: &mut State, request: u8, node: u8) {
        let wishes = self.scope.wishes;
        let at = usize::from(request);
        match state.nodes[usize::from(node)].hold(request, wishes, &self.guards) {
            Hold::NotNow => {}
            Hold::Refused => state.requests[at] = Request::Refused,
            Hold::Replayed { id } => {
                let e = state.nodes[usize::from(node)].data.out[usize::from(id)];
                let has_row = state.sql.rows[usize::from(id)].is_some();
                state.requests[at] =
                    if has_row || e == 0 { Request::Done } else { Request::Held(id, e) };
            }
            Hold::Held { e } => {
                state.requests[at] = Request::Held(request, e);
                state.ghost.held_in[at] = e;
                if node == state.primary {
                    let mine = wishes[at];
                    let is_same = |(id, wish): (u8, &crate::scope::Wish)| {
                        state.ghost.known & bit(id) != 0
                            && (wish.patient, wish.key) == (mine.patient, mine.key)
                    };
                    state.ghost.key_twice |= (0_u8..).zip(wishes).any(is_same);
                    state.ghost.known |= bit(request);
                    // With two primaries there is no one outbox to be kept in.
                    state.ghost.kept |= if self.scope.is_split { 0 } else { bit(request) };
                    self.forget_overwritten(state, false);
                }
            }
        }
    }

    fn publish(&self, state: &mut State, requests: &[u8]) {
        let mut bookings = [None; 2];
        for (place, r) in bookings.iter_mut().zip(requests) {
            let at = usize::from(*r);
            let (id, e) = match state.requests[at] {
                Request::Held(id, e) => {
                    state.requests[at] = Request::Confirmed(id, e);
                    (id, e)
                }
                Request::Vouched(id, e) => {
                    state.requests[at] = Request::Done;
                    state.ghost.queued |= bit(id);
                    (id, e)
                }
                _ => return,
            };
            *place = Some((id, e));
            if !self.guards.outbox_until_row {
                state.redis_mut().data.out[usize::from(id)] = 0;
            }
        }
        state.queue.push(Message::Envelope { bookings, done: [false; 2], legible: true });
    }

    fn give_back(&self, state: &mut State, r: u8) {
        let Request::Held(id, e) = state.requests[usize::from(r)] else { return };
        state.requests[usize::from(r)] = Request::Done;
        state.queue.push(envelope(id, e));
        let wish = self.scope.wishes[usize::from(id)];
        let data = &mut state.redis_mut().data;
        if data.out[usize::from(id)] != e || data.stamp != e {
            return;
        }
        data.out[usize::from(id)] = 0;
        data.who[usize::from(wish.patient)] = None;
        data.slots[usize::from(wish.slot)].left += 1;
        data.slots[usize::from(wish.slot)].sold -= 1;
        self.forget_overwritten(state, true);
    }

    fn reconcile(&self, state: &mut State, r: usize, action: Action) {
        let was = std::mem::take(&mut state.reconcilers[r]);
        let node = self.node_of(state, r);
        let current = state.sql.current();
        let sealed = !state.sql.is(current, EpochState::Open);
        match (action, was) {
            (Action::Look(_), _) => state.reconcilers[r] = Reconciler::Looked(current, sealed),
            (Action::Prepare(_), was) => {
                let (e, sealed) = match was {
                    Reconciler::Looked(e, sealed) => (e, sealed),
                    _ => (current, sealed),
                };
                let nonce = state.next_nonce;
                state.budget.prepares -= 1;
                if state.nodes[node].prepare(nonce, e, sealed, &self.guards) {
                    state.next_nonce += 1;
                    state.reconcilers[r] = Reconciler::Shell(e, nonce, state.nodes[node].term);
                }
            }
            (Action::OpenRow(_), Reconciler::Shell(e, nonce, term)) => {
                if let Some(e) = state.sql.open_epoch(e, term, nonce, &self.facts()) {
                    state.reconcilers[r] = Reconciler::Opened(e, nonce, term);
                }
            }
            (Action::OpenLedger(_), Reconciler::Opened(e, nonce, term)) => {
                state.nodes[node].open(e, term, nonce, &self.guards);
            }
            (Action::OpenLedger(_), _) => {
                let Some(row) = state.sql.epoch(current).copied().filter(|_| !sealed) else {
                    return;
                };
                state.nodes[node].open(current, row.term, row.nonce, &self.guards);
            }
            (Action::TopUp(_), _) => {
                state.sql.top_up(&self.facts());
                if let Some(row) = state.sql.epoch(current).filter(|_| !sealed) {
                    let live = self.live(state);
                    state.reconcilers[r] =
                        Reconciler::Grants(current, row.nonce, row.granted, live);
                }
            }
            (Action::Apply(_), Reconciler::Grants(e, nonce, granted, live)) => {
                let wishes = self.scope.wishes;
                state.nodes[node].apply((e, nonce), granted, live, wishes, &self.guards);
            }
            (Action::FreezeLedger(_), _) => {
                let Some(row) = state.sql.epoch(current).copied() else { return };
                if self.what_next(state, node) == Move::Sell {
                    state.budget.freezes -= 1;
                }
                if let Some(sold) = state.nodes[node].freeze(current, row.nonce, &self.guards) {
                    state.reconcilers[r] = Reconciler::Frozen(current, sold);
                }
            }
            (Action::FreezeRow(_), Reconciler::Frozen(e, sold)) => state.sql.freeze(e, sold),
            (Action::LookOutbox(_, e), _) => state.reconcilers[r] = Reconciler::Clear(e),
            (Action::Close(_, e), _) => {
                state.sql.close(e, &self.guards);
            }
            (Action::Die(_), _) => state.budget.deaths -= 1,
            _ => {}
        }
    }

    fn live(&self, state: &State) -> u8 {
        let rows = (0_u8..).zip(&state.sql.rows);
        let live = rows.filter(|(_, row)| row.is_some_and(|row| row.state.is_live()));
        live.fold(0, |mask, (id, _)| mask | bit(id))
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
