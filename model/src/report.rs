//! What a run found, for people and for programs.

use serde_json::{Value, json};

use crate::explore::{Explored, Violation};
use crate::protocol::Protocol;

/// Tells a violation: what is broken, where, and how one gets there.
pub fn violation(protocol: &Protocol, place: &str, violation: &Violation) -> String {
    let mut lines = vec![format!("VIOLATION of {}, {place}", describe(violation.property))];
    lines.extend(protocol.story(violation));
    lines.join("\n")
}

/// Names a property and what it says.
pub fn describe(property: &str) -> String {
    let found = crate::check::PROPERTIES.iter().find(|(name, _)| *name == property);
    found.map_or(property.to_owned(), |(name, says)| format!("{name} ({says})"))
}

/// One line on an exploration.
pub fn line(name: &str, explored: &Explored) -> String {
    let Explored { generated, unique, depth, took, violation } = explored;
    let verdict = violation.as_ref().map_or("sound".to_owned(), |violation| {
        format!("{} after {} steps", violation.property, violation.trace.len())
    });
    let seconds = took.as_secs_f64();
    format!("{name:<26} {generated:>10} {unique:>10} {depth:>6} {seconds:>8.2}  {verdict}")
}

/// The head of the lines.
pub fn head(what: &str) -> String {
    format!("{what:<26} {:>10} {:>10} {:>6} {:>8}", "states", "unique", "depth", "seconds")
}

/// An exploration as JSON.
pub fn json(name: &str, protocol: &Protocol, explored: &Explored) -> Value {
    json!({
        "name": name,
        "states": explored.generated,
        "unique": explored.unique,
        "depth": explored.depth,
        "seconds": explored.took.as_secs_f64(),
        "violation": explored.violation.as_ref().map(|violation| json_violation(protocol, violation)),
    })
}

/// A violation as JSON.
pub fn json_violation(protocol: &Protocol, violation: &Violation) -> Value {
    json!({ "property": violation.property, "trace": protocol.story(violation) })
}
