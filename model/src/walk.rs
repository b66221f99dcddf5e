//! Random walks through worlds too large to be exhausted, each told by its seed.

use crate::Guards;
use crate::action::Action;
use crate::explore::Violation;
use crate::protocol::Protocol;
use crate::random::Random;
use crate::scopes::WALKED;
use crate::shrink::{shrink, verdict};
use crate::state::State;

/// Steps of a walk at most.
const STEPS_MAX: usize = 150;
/// One step in so many may be a fault although something else is possible.
const FAULT_EVERY: u64 = 5;

/// What came of a walk.
#[derive(Clone, Debug)]
pub struct Walked {
    /// Steps taken.
    pub steps: usize,
    /// What it broke, as short as it could be made, with the world it happened in.
    pub violation: Option<(Protocol, Violation)>,
}

/// Walks from a seed: it chooses the world, what may go wrong in it, and every step. The last state
/// is completed.
pub fn walk(seed: u64, guards: Guards) -> Walked {
    let mut random = Random::new(seed);
    let places = u64::try_from(WALKED.len()).unwrap_or(1);
    let place = usize::try_from(random.below(places)).unwrap_or(0);
    let mut scope = WALKED[place];
    scope.budget = scope.budget.thinned(&mut random);
    let protocol = Protocol { scope, guards };
    let (trace, last) = stroll(&protocol, &mut random);
    let steps = trace.len();
    let is_broken = verdict(&protocol, &last).is_some();
    let violation = is_broken.then(|| shrink(&protocol, &trace)).flatten();
    Walked { steps, violation: violation.map(|violation| (protocol, violation)) }
}

fn stroll(protocol: &Protocol, random: &mut Random) -> (Vec<Action>, State) {
    let (mut state, mut trace) = (protocol.initial(), Vec::new());
    let mut candidates = Vec::new();
    while trace.len() < STEPS_MAX && protocol.broken(&state).is_none() {
        candidates.clear();
        protocol.candidates(&state, &mut candidates);
        if random.below(FAULT_EVERY) != 0 && candidates.iter().any(|action| !action.is_fault()) {
            candidates.retain(|action| !action.is_fault());
        }
        let mut moved = false;
        while !candidates.is_empty() {
            let bound = u64::try_from(candidates.len()).unwrap_or(1);
            let at = usize::try_from(random.below(bound)).unwrap_or(0);
            let action = candidates.swap_remove(at);
            let after = protocol.after(&state, action);
            if after != state {
                state = after;
                trace.push(action);
                moved = true;
                break;
            }
        }
        if !moved {
            break;
        }
    }
    (trace, state)
}
