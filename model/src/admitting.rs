//! What gateways do: steps G1 to G4, each request a task of its own.

use crate::action::Action;
use crate::next::envelope;
use crate::protocol::Protocol;
use crate::scope::Wish;
use crate::state::{EpochState, Message, Request, State, bit};
use crate::steps::redis::Hold;

impl Protocol {
    /// Takes a step of a request's task.
    pub(crate) fn gateway(&self, state: &mut State, action: Action) {
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
                    let is_same = |(id, wish): (u8, &Wish)| {
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
}
