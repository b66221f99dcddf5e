//! What the worker's consumer does with the queue.

use crate::action::Action;
use crate::protocol::Protocol;
use crate::state::{Message, State};
use crate::steps::sql::Judged;

impl Protocol {
    /// Takes a step of the consumer.
    pub(crate) fn worker(&self, state: &mut State, action: Action) {
        match action {
            Action::Persist(at) => self.persist(state, at, 2),
            Action::Silence(at) => {
                state.budget.silences -= 1;
                let Message::Envelope { bookings, .. } = state.queue.items()[usize::from(at)]
                else {
                    return;
                };
                self.persist(state, at, bookings.iter().flatten().count() - 1);
                if !self.guards.ack_what_returned {
                    note_done(state, at);
                }
            }
            Action::PersistWave => self.persist_wave(state),
            Action::Park(at) => {
                state.budget.parkings -= 1;
                let Message::Envelope { bookings, .. } = state.queue.items()[usize::from(at)]
                else {
                    return;
                };
                for (id, e) in bookings.into_iter().flatten() {
                    state.sql.park(id, e, true);
                }
                note_done(state, at);
            }
            Action::Ack(at) => {
                state.queue.remove(usize::from(at));
            }
            Action::Meet => self.meet(state),
            Action::CloseChannel => {
                state.budget.closes -= 1;
                begin_life(state);
            }
            Action::CloseScrambled(count) => {
                state.budget.scrambles -= 1;
                for _ in 0..count {
                    let message = state.queue.remove(0);
                    state.queue.push(message);
                }
                begin_life(state);
            }
            Action::Nack(at) => {
                state.budget.closes -= 1;
                let message = state.queue.remove(usize::from(at));
                state.queue.push(message);
            }
            Action::DeadLetter(at) => {
                state.budget.closes -= 1;
                let message = state.queue.remove(usize::from(at));
                state.stray.push(message);
            }
            Action::CancelConsumer(count) => {
                state.budget.closes -= 1;
                for _ in 0..count {
                    let message = state.queue.remove(0);
                    state.stray.push(message);
                }
                begin_life(state);
            }
            Action::StrayReturn => {
                while !state.stray.is_empty() {
                    let last = state.stray.remove(state.stray.len() - 1);
                    state.queue.push_front(last);
                }
            }
            _ => {}
        }
    }

    /// Persists the first `count` bookings of a message, or parks it if it can't be read.
    fn persist(&self, state: &mut State, at: u8, count: usize) {
        let Message::Envelope { bookings, mut done, legible } =
            state.queue.items()[usize::from(at)]
        else {
            return;
        };
        for (place, booking) in bookings.iter().enumerate().take(count) {
            let Some((id, e)) = *booking else { continue };
            if done[place] {
                continue;
            }
            let facts = self.facts();
            if !legible {
                state.sql.park(id, e, false);
            } else if !state.sql.persist(id, e, &facts, &mut state.ghost) {
                state.sql.park(id, e, true);
            }
            done[place] = true;
        }
        state.queue.items_mut()[usize::from(at)] = Message::Envelope { bookings, done, legible };
    }

    /// Judges all messages in front of the first barrier by one snapshot, then writes them.
    fn persist_wave(&self, state: &mut State) {
        let facts = self.facts();
        let mut judged = Vec::new();
        let mut count = 0;
        for message in state.queue.items() {
            let Message::Envelope { bookings, legible: true, .. } = *message else { break };
            count += 1;
            for (id, e) in bookings.into_iter().flatten() {
                judged.push((id, e, state.sql.judge(id, e, &facts)));
            }
        }
        for (id, e, judged) in judged {
            let Judged::Fresh(reason) = judged else { continue };
            let has_row = state.sql.rows[usize::from(id)].is_some();
            if has_row && !self.guards.ids_once_in_wave {
                // The row is there already, the counters are raised all the same.
                state.sql.count(id, e, false, &facts);
            } else if !has_row && state.sql.judge(id, e, &facts) == Judged::Fresh(reason) {
                state.sql.write(id, e, reason, &facts, &mut state.ghost);
            }
        }
        for at in 0..count {
            note_done(state, at);
        }
    }

    /// W5, W6: the barrier in front; everything before it is acked.
    fn meet(&self, state: &mut State) {
        let Message::Barrier { e, own } = state.queue.items()[0] else { return };
        state.queue.remove(0);
        if own || !self.guards.barrier_echoed {
            state.sql.record_drained(e);
        } else {
            state.queue.push(Message::Barrier { e, own: true });
        }
    }
}

fn note_done(state: &mut State, at: u8) {
    if let Message::Envelope { bookings, legible, .. } = state.queue.items()[usize::from(at)] {
        state.queue.items_mut()[usize::from(at)] =
            Message::Envelope { bookings, done: bookings.map(|b| b.is_some()), legible };
    }
}

/// A new channel: nothing is known of what was delivered before, and no echo is one's own.
fn begin_life(state: &mut State) {
    for message in state.queue.items_mut() {
        match message {
            Message::Envelope { done, .. } => *done = [false; 2],
            Message::Barrier { own, .. } => *own = false,
        }
    }
}

/// Tells whether a message is done with, for all the consumer knows.
pub(crate) fn is_done(message: &Message) -> bool {
    match message {
        Message::Envelope { bookings, done, .. } => {
            bookings.iter().zip(done).all(|(booking, done)| booking.is_none() || *done)
        }
        Message::Barrier { .. } => false,
    }
}
