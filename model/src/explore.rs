//! Exhaustive exploration, shortest trace first.

use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::action::Action;
use crate::protocol::Protocol;
use crate::shrink::shrink;
use crate::state::State;

/// What came of exploring a scope.
#[derive(Clone, Debug)]
pub struct Explored {
    /// States generated, repeats included.
    pub generated: usize,
    /// Different states.
    pub unique: usize,
    /// Steps of the longest way to a state.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// What is broken, with the steps that lead there.
    pub violation: Option<Violation>,
}

/// A way to a state that breaks a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The property.
    pub property: &'static str,
    /// The steps.
    pub trace: Vec<Action>,
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.initial()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if self.broken(state).is_none() {
            self.candidates(state, actions);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let after = self.after(state, action);
        (after != *state).then_some(after)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("in every state", |model: &Self, state| model.broken(state).is_none()),
            Property::always("at rest", |model: &Self, state| model.unfinished(state).is_none()),
        ]
    }
}

/// Explores every state of a scope, or up to the first violation.
pub fn explore(protocol: &Protocol, threads: usize) -> Explored {
    let start = Instant::now();
    let builder = protocol.checker().threads(threads).finish_when(HasDiscoveries::Any);
    let checker = builder.spawn_bfs().join();
    let paths = checker.discoveries().into_values();
    let violation = paths
        .map(stateright::Path::into_actions)
        .min_by_key(Vec::len)
        .and_then(|trace| shrink(protocol, &trace));
    Explored {
        generated: checker.state_count(),
        unique: checker.unique_state_count(),
        depth: checker.max_depth(),
        took: start.elapsed(),
        violation,
    }
}
