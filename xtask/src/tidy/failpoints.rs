//! Failpoints: each has a case and a line in the crash matrix, and no build has them by default.

use std::collections::BTreeMap;

use super::Source;
use crate::matrix::PAGE;

const CASES: &str = "e2e/tests/system/crash/points.rs";
/// Who has points.
const OWNERS: [&str; 3] = ["broker/src/", "gateway/src/", "booking-worker/src/"];
/// Who may have the feature, and how it is written there.
const FORWARDS: [&str; 2] = ["gateway/Cargo.toml", "booking-worker/Cargo.toml"];
const FORWARD: &str = "failpoints = [\"failpoint/armed\"]";

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let mut complaints = features(sources);
    let mut points = BTreeMap::<&str, Vec<String>>::new();
    for source in sources.iter().filter(|s| OWNERS.iter().any(|owner| s.path.starts_with(owner))) {
        for (index, line) in source.text.lines().enumerate() {
            let name =
                between(line, "point!(\"", "\"").or_else(|| between(line, "before!(\"", "\""));
            if let Some(name) = name {
                points.entry(name).or_default().push(format!("{}:{}", source.path, index + 1));
            }
        }
    }
    let text = |path| sources.iter().find(|source| source.path == path).map_or("", |s| &s.text);
    let cases: Vec<_> = text(CASES).lines().filter_map(|l| between(l, " at \"", "\"")).collect();
    let lines: Vec<_> = text(PAGE).lines().filter_map(|l| between(l, "| `", "` |")).collect();
    for (name, places) in &points {
        let place = &places[0];
        if let Some(other) = places.get(1) {
            complaints.push(format!("{other}: the point {name} is also at {place}"));
        }
        if !cases.contains(name) {
            complaints.push(format!("{place}: the point {name} has no case in {CASES}"));
        }
        if !lines.contains(name) {
            complaints.push(format!("{place}: the point {name} has no line in {PAGE}"));
        }
    }
    for (path, named) in [(CASES, &cases), (PAGE, &lines)] {
        let unknown = named.iter().filter(|name| !points.contains_key(*name));
        complaints.extend(unknown.map(|name| format!("{path}:1: there is no point {name}")));
    }
    if cases.len() != lines.len() {
        let (lines, cases) = (lines.len(), cases.len());
        complaints.push(format!("{PAGE}:1: {lines} lines, but {cases} cases"));
    }
    complaints
}

/// Nothing but the programs' own feature arms the points, and nothing switches that on.
fn features(sources: &[Source]) -> Vec<String> {
    let manifests = sources.iter().filter(|source| source.is("toml"));
    let lines = manifests.flat_map(|source| {
        source.text.lines().enumerate().map(move |(index, line)| (source, index + 1, line.trim()))
    });
    let forbidden = lines.filter(|(source, _, line)| {
        let is_forward = FORWARDS.contains(&source.path.as_str()) && *line == FORWARD;
        let is_theirs = source.path == "failpoint/Cargo.toml";
        (line.contains("failpoints") || line.contains("armed"))
            && !line.starts_with('#')
            && !is_forward
            && !is_theirs
    });
    forbidden
        .map(|(source, line, _)| format!("{}:{line}: this may arm failpoints", source.path))
        .collect()
}

fn between<'a>(line: &'a str, from: &str, to: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(from)?;
    rest.split_once(to).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::source;

    fn complaints(code: &str, cases: &str, page: &str) -> Vec<String> {
        check(&[source("gateway/src/x.rs", code), source(CASES, cases), source(PAGE, page)])
    }

    #[test]
    fn a_point_needs_a_case_and_a_line_and_they_need_a_point() {
        let (code, case, line) = ("point!(\"a.b\");", "x: Gateway at \"a.b\",", "| `a.b` | died |");
        assert!(complaints(code, case, line).is_empty());
        assert!(complaints("before!(\"a.b\", go());", case, line).is_empty());
        assert_eq!(complaints(code, "", "").len(), 2);
        assert_eq!(complaints("", case, line).len(), 2);
        assert_eq!(complaints(&format!("{code}\n{code}"), case, line).len(), 1);
        assert_eq!(complaints(code, &format!("{case}\n{case}"), line).len(), 1);
    }

    #[test]
    fn no_manifest_arms_them() {
        let armed = |path, text: &str| check(&[source(path, text)]).len();
        assert_eq!(armed("gateway/Cargo.toml", FORWARD), 0);
        assert_eq!(armed("gateway/Cargo.toml", "default = [\"failpoints\"]"), 1);
        assert_eq!(armed("rush/Cargo.toml", "failpoint = { features = [\"armed\"] }"), 1);
    }
}
