//! `.env.example` lists exactly the settings that the programs have.

use std::collections::BTreeSet;

use super::Source;

const EXAMPLE: &str = ".env.example";
const PROGRAMS: [&str; 3] = ["gateway/src/", "booking-worker/src/", "service/src/"];
const PREFIX: &str = "SLOTRUSH_";

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let mut in_code = BTreeSet::new();
    for source in sources {
        if PROGRAMS.iter().any(|program| source.path.starts_with(program)) {
            in_code.extend(declared(&source.text));
        }
    }
    let Some(example) = sources.iter().find(|source| source.path == EXAMPLE) else {
        return if in_code.is_empty() { vec![] } else { vec![format!("{EXAMPLE}:1: missing")] };
    };
    let listed = listed(&example.text);
    let missing = in_code.difference(&listed).map(|name| format!("{EXAMPLE}:1: {name} is missing"));
    let unknown =
        listed.difference(&in_code).map(|name| format!("{EXAMPLE}:1: no program has {name}"));
    missing.chain(unknown).collect()
}

/// Names in `env = "SLOTRUSH_…"`.
fn declared(code: &str) -> BTreeSet<String> {
    let values = code.split("env = \"").skip(1).filter_map(|rest| rest.split('"').next());
    values.filter(|name| name.starts_with(PREFIX)).map(str::to_owned).collect()
}

/// Names before `=`, also in lines that are commented out.
fn listed(example: &str) -> BTreeSet<String> {
    let lines = example.lines().map(|line| line.trim_start_matches(['#', ' ']));
    let names = lines.filter_map(|line| line.split_once('=')).map(|(name, _)| name.trim());
    names
        .filter(|name| name.starts_with(PREFIX) && !name.contains(' '))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::source;

    fn complaints(code: &str, example: &str) -> Vec<String> {
        check(&[source("gateway/src/settings.rs", code), source(EXAMPLE, example)])
    }

    #[test]
    fn a_setting_must_be_in_the_example_and_in_a_program() {
        let code = "#[arg(long, env = \"SLOTRUSH_A\")]\n#[arg(\n env = \"SLOTRUSH_B\",\n)]";
        assert!(complaints(code, "SLOTRUSH_A=1\n# SLOTRUSH_B=2\n# some words\n").is_empty());
        assert_eq!(complaints(code, "SLOTRUSH_A=1\n"), [".env.example:1: SLOTRUSH_B is missing"]);
        assert_eq!(complaints("", "SLOTRUSH_C=\n"), [".env.example:1: no program has SLOTRUSH_C"]);
    }
}
