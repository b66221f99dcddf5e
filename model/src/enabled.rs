//! What may happen next.
//!
//! Lists candidates; whatever would change nothing is left out by whoever follows them.

use crate::action::Action;
use crate::consuming::is_done;
use crate::protocol::{Move, Protocol};
use crate::state::{EpochState, Message, Reconciler, Request, State, bit};

/// Messages in front that a consumer may have in hand.
const PREFETCH: usize = 2;

impl Protocol {
    /// Lists everything that may happen next.
    pub fn candidates(&self, state: &State, found: &mut Vec<Action>) {
        self.of_gateways(state, found);
        self.of_worker(state, found);
        self.of_outbox(state, found);
        for r in 0..self.scope.reconcilers {
            self.of_reconciler(state, r, found);
        }
        self.of_epochs(state, found);
        of_faults(state, found);
    }

    /// Lists everything that may happen next and changes something.
    pub fn enabled(&self, state: &State) -> Vec<(Action, State)> {
        let mut found = Vec::new();
        self.candidates(state, &mut found);
        let after = found.into_iter().map(|action| (action, self.after(state, action)));
        after.filter(|(_, after)| after != state).collect()
    }

    fn of_gateways(&self, state: &State, found: &mut Vec<Action>) {
        let guards = &self.guards;
        let mut held = Vec::new();
        for (r, at) in (0_u8..).zip(0..self.scope.wishes.len()) {
            match state.requests[at] {
                Request::Fresh => {
                    if self.scope.waits_for_the_one_before(at)
                        && state.requests[at - 1] == Request::Fresh
                    {
                        continue;
                    }
                    let primaries = (0_u8..).zip(&state.nodes).filter(|(_, node)| node.is_primary);
                    found.extend(primaries.map(|(node, _)| Action::Hold { request: r, node }));
                }
                Request::Held(id, e) => {
                    held.push((r, id));
                    found.push(if guards.check_after_confirm {
                        Action::Publish(r)
                    } else {
                        Action::Vouch(r)
                    });
                    if state.budget.returns > 0 {
                        found.push(Action::Return(r));
                    }
                    if !guards.unknown_keeps_quota {
                        found.push(Action::GiveBack(r));
                    }
                    if !guards.one_epoch_per_id && id == r && state.sql.current() > e {
                        found.push(Action::HoldAgain(r));
                    }
                }
                Request::Vouched(..) => found.push(Action::Publish(r)),
                Request::Confirmed(..) => found.push(Action::Check(r)),
                Request::Refused | Request::Done => {}
            }
        }
        if self.scope.envelopes && guards.check_after_confirm {
            for (i, (a, id)) in held.iter().enumerate() {
                let others = held[i + 1..].iter().filter(|(_, other)| other != id);
                found.extend(others.map(|(b, _)| Action::PublishBoth(*a, *b)));
            }
        }
    }

    fn of_worker(&self, state: &State, found: &mut Vec<Action>) {
        let (guards, budget) = (&self.guards, &state.budget);
        if let Some(Message::Barrier { .. }) = state.queue.items().first() {
            found.push(Action::Meet);
        }
        let envelopes = state.queue.items().iter().take(PREFETCH);
        let envelopes = envelopes.take_while(|message| matches!(message, Message::Envelope { .. }));
        for (at, message) in (0_u8..).zip(envelopes) {
            let is_done = is_done(message);
            if is_done || !guards.ack_after_commit {
                found.push(Action::Ack(at));
            }
            if !is_done {
                found.push(Action::Persist(at));
                let choices = [
                    (budget.silences > 0, Action::Silence(at)),
                    (budget.parkings > 0, Action::Park(at)),
                    (budget.corruptions > 0, Action::Corrupt(at)),
                    (budget.scrambles > 0, Action::CloseScrambled(at + 1)),
                    (budget.closes > 0 && !guards.no_requeue, Action::Nack(at)),
                    (
                        budget.closes > 0 && !guards.no_dead_letters && state.stray.is_empty(),
                        Action::DeadLetter(at),
                    ),
                ];
                found.extend(choices.iter().filter(|(may, _)| *may).map(|(_, action)| *action));
            }
            if budget.closes > 0 && !guards.close_hands_over && state.stray.is_empty() {
                found.push(Action::CancelConsumer(at + 1));
            }
        }
        if !state.stray.is_empty() {
            found.push(Action::StrayReturn);
        }
        if !(guards.conflict_target && guards.ids_once_in_wave) && state.queue.len() > 1 {
            found.push(Action::PersistWave);
        }
        if budget.closes > 0 {
            found.push(Action::CloseChannel);
        }
    }

    fn of_outbox(&self, state: &State, found: &mut Vec<Action>) {
        for id in (0_u8..).take(self.scope.wishes.len()) {
            let at = usize::from(id);
            let is_out = state.redis().data.out[at] != 0;
            match state.sql.rows[at] {
                None if is_out && state.budget.relays > 0 => found.push(Action::Relay(id)),
                None => {
                    let primaries = (0_u8..).zip(&state.nodes).filter(|(_, node)| node.is_primary);
                    if state.ghost.held_in[at] != 0 && state.budget.lapses > 0 {
                        found.extend(primaries.map(|(node, _)| Action::LookLapse(id, node)));
                    }
                }
                Some(row) => {
                    found.push(Action::Settle(id));
                    if row.state.is_live() && state.budget.cancels > 0 {
                        found.push(Action::Cancel(id));
                    }
                }
            }
            if state.lapsing & bit(id) != 0 {
                found.push(Action::Lapse(id));
            }
            match state.sql.parked[at] {
                Some(parked) if parked.legible => found.push(Action::ReplayParked(id)),
                Some(_) if state.sql.rows[at].is_some() => found.push(Action::Discard(id)),
                Some(_) | None => {}
            }
        }
    }

    fn of_reconciler(&self, state: &State, r: u8, found: &mut Vec<Action>) {
        let was = state.reconcilers[usize::from(r)];
        if was != Reconciler::Idle && state.budget.deaths > 0 {
            found.push(Action::Die(r));
        }
        match was {
            Reconciler::Idle => self.of_idle(state, r, found),
            Reconciler::Looked(..) if state.budget.prepares > 0 => found.push(Action::Prepare(r)),
            Reconciler::Looked(..) => {}
            Reconciler::Shell(..) => found.push(Action::OpenRow(r)),
            Reconciler::Opened(..) => found.push(Action::OpenLedger(r)),
            Reconciler::Grants(..) => found.push(Action::Apply(r)),
            Reconciler::Frozen(..) => found.push(Action::FreezeRow(r)),
            Reconciler::Clear(e) => found.push(Action::Close(r, e)),
        }
    }

    fn of_idle(&self, state: &State, r: u8, found: &mut Vec<Action>) {
        let node = self.node_of(state, usize::from(r));
        let next = self.what_next(state, node);
        match next {
            Move::Renew if self.scope.reconcilers > 1 => found.push(Action::Look(r)),
            Move::Renew if state.budget.prepares > 0 => found.push(Action::Prepare(r)),
            Move::Freeze => found.push(Action::FreezeLedger(r)),
            Move::Sell if state.budget.freezes > 0 || self.has_excess(state) => {
                found.push(Action::FreezeLedger(r));
            }
            Move::Open => found.push(Action::OpenLedger(r)),
            Move::Renew | Move::Sell | Move::Wait => {}
        }
        if !self.guards.open_needs_shell {
            found.push(Action::OpenLedger(r));
        }
        if next != Move::Sell {
            return;
        }
        if self.would_supply(state, r) {
            found.push(Action::TopUp(r));
        }
        for e in self.closable(state, node) {
            found.push(if self.scope.is_fine {
                Action::LookOutbox(r, e)
            } else {
                Action::Close(r, e)
            });
        }
    }

    /// Tells whether granting and applying would change anything.
    pub(crate) fn would_supply(&self, state: &State, r: u8) -> bool {
        self.supply(state, r) != *state
    }

    /// Sealed epochs of which the true ledger's outbox holds nothing.
    pub(crate) fn closable(&self, state: &State, node: usize) -> Vec<u8> {
        let out = &state.nodes[node].data.out;
        let sealed = (1_u8..).zip(state.sql.epochs.items()).filter(|(e, row)| {
            row.state == EpochState::Sealed
                && (row.drained || row.frozen)
                && (!out.contains(e) || !self.guards.close_minds_outbox)
        });
        sealed.map(|(e, _)| e).collect()
    }

    fn of_epochs(&self, state: &State, found: &mut Vec<Action>) {
        for (e, row) in (1_u8..).zip(state.sql.epochs.items()) {
            let is_sealed = row.state == EpochState::Sealed && !row.drained;
            let is_early = row.state == EpochState::Open && !self.guards.barrier_after_seal;
            let is_underway =
                |m: &Message| matches!(m, Message::Barrier { e: other, .. } if *other == e);
            if (is_sealed || is_early) && !state.queue.items().iter().any(is_underway) {
                found.push(Action::Barrier(e));
            }
        }
    }
}

fn of_faults(state: &State, found: &mut Vec<Action>) {
    let budget = &state.budget;
    let other = &state.nodes[1 - usize::from(state.primary)];
    let choices = [
        (budget.withdrawals > 0, Action::Withdraw),
        (budget.lowerings > 0, Action::Lower),
        (budget.flushes > 0, Action::Flush),
        (budget.restarts > 0, Action::Restart),
        (budget.syncs > 0 && !other.is_primary, Action::Sync),
        (budget.syncs > 0 && other.is_primary, Action::Demote),
        (budget.failovers > 0 && !other.is_primary, Action::FailOver),
        (budget.queue_losses > 0, Action::LoseQueue),
    ];
    found.extend(choices.iter().filter(|(may, _)| *may).map(|(_, action)| *action));
}
