//! The protocol is sound in every small world, and unsound without any one of its guards.

use std::collections::HashSet;

use model::explore::explore;
use model::shrink::replay;
use model::walks::walk_all;
use model::{Guards, Protocol, mutants, scopes};

#[test]
fn small_worlds_are_sound() {
    for scope in scopes::ALL.iter().filter(|scope| scope.is_quick) {
        let protocol = Protocol::sound(*scope);
        let found = explore(&protocol, 2);
        let told = found.violation.map(|violation| protocol.story(&violation).join("\n"));
        assert_eq!(told, None, "{}", scope.name);
    }
}

#[test]
fn every_mutant_is_caught_in_a_world_that_is_sound_with_the_guard() {
    for mutant in mutants::ALL {
        let found = explore(&mutant.protocol(), 1).violation;
        let property = found.as_ref().map(|violation| violation.property);
        assert_eq!(property, Some(mutant.property), "{}", mutant.name);
        // The worlds of the mutants are small ones: the test above explores them with all guards.
        assert!(mutant.scope().is_quick, "{} is not shown to be sound", mutant.scope);
    }
}

#[test]
fn every_guard_is_taken_out_by_a_mutant_or_known_to_be_a_second_line() {
    let taken: HashSet<&str> =
        mutants::ALL.iter().flat_map(|mutant| mutant.without).copied().collect();
    let missing: Vec<&str> =
        Guards::ALL.iter().map(|(name, _)| *name).filter(|name| !taken.contains(name)).collect();
    assert_eq!(missing, mutants::SECOND_LINES.map(|(name, _)| name));
}

#[test]
fn ten_thousand_walks_break_nothing() {
    let walks = walk_all(0, 10_000, Guards::default(), 2, |_| {});
    let told = walks
        .violation
        .map(|broken| (broken.seed, broken.protocol.story(&broken.violation).join("\n")));
    assert_eq!(told, None);
    assert!(walks.steps > 300_000, "{} steps", walks.steps);
}

#[test]
fn a_walk_that_breaks_something_is_shrunk_to_a_trace_that_does_it_again() {
    let mut guards = Guards::default();
    assert!(guards.take_out("check"));
    let walks = walk_all(0, 10_000, guards, 2, |_| {});
    let broken = walks.violation.expect("a walk shows what the check is for");
    let (taken, property) = replay(&broken.protocol, &broken.violation.trace);
    assert_eq!(property, Some(broken.violation.property));
    assert_eq!(taken, broken.violation.trace);
    for at in 0..taken.len() {
        let mut without = taken.clone();
        without.remove(at);
        assert_ne!(replay(&broken.protocol, &without).1, property, "step {at} is not needed");
    }
}

#[test]
fn the_loss_of_a_second_line_alone_breaks_nothing() {
    for (guard, _) in mutants::SECOND_LINES {
        let mut guards = Guards::default();
        assert!(guards.take_out(guard), "{guard}");
        for name in ["flush", "failback", "restart"] {
            let scope = scopes::ALL.iter().find(|scope| scope.name == name).expect("a scope");
            let found = explore(&Protocol { scope: *scope, guards }, 2).violation;
            assert_eq!(found, None, "{guard} in {name}");
        }
        assert!(walk_all(0, 2_000, guards, 2, |_| {}).violation.is_none(), "{guard}");
    }
}
