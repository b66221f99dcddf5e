//! Making a trace shorter while it still breaks something.

use crate::action::Action;
use crate::explore::Violation;
use crate::protocol::Protocol;
use crate::state::State;

/// Names what a state breaks, now or at rest.
pub fn verdict(protocol: &Protocol, state: &State) -> Option<&'static str> {
    protocol.broken(state).or_else(|| protocol.unfinished(state))
}

/// Takes the steps that are possible, one after the other, up to the first violation in a state.
/// At the end, and only there, the rest is judged too.
pub fn replay(protocol: &Protocol, trace: &[Action]) -> (Vec<Action>, Option<&'static str>) {
    let (mut state, mut taken) = (protocol.initial(), Vec::new());
    for action in trace {
        let found = protocol.enabled(&state).into_iter().find(|(other, _)| other == action);
        let Some((_, after)) = found else { continue };
        taken.push(*action);
        state = after;
        if let Some(property) = protocol.broken(&state) {
            return (taken, Some(property));
        }
    }
    let property = protocol.unfinished(&state);
    (taken, property)
}

/// Drops steps as long as the trace still breaks the same property; `None` if it breaks nothing.
pub fn shrink(protocol: &Protocol, trace: &[Action]) -> Option<Violation> {
    let (mut trace, property) = replay(protocol, trace);
    let property = property?;
    let mut chunk = trace.len().max(1);
    loop {
        let mut at = 0;
        let mut is_shorter = false;
        while at < trace.len() {
            let mut without = trace.clone();
            without.drain(at..(at + chunk).min(trace.len()));
            let (taken, found) = replay(protocol, &without);
            if found == Some(property) && taken.len() < trace.len() {
                trace = taken;
                is_shorter = true;
            } else {
                at += chunk;
            }
        }
        if chunk == 1 && !is_shorter {
            return Some(Violation { property, trace });
        }
        chunk = (chunk / 2).max(1);
    }
}
