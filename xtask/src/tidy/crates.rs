//! Which crate may use which: the one-way rule, and one owner per server library.

use super::Source;

/// Crates of ours that each one may use. `None` is a development crate: any.
const INTERNAL: [(&str, Option<&[&str]>); 15] = [
    ("failpoint", Some(&[])),
    ("booking", Some(&["failpoint"])),
    ("inventory", Some(&["booking"])),
    ("ledger", Some(&["booking"])),
    ("broker", Some(&["booking", "failpoint"])),
    ("service", Some(&[])),
    ("gateway", Some(&["booking", "inventory", "ledger", "broker", "service", "failpoint"])),
    ("booking-worker", Some(&["booking", "inventory", "ledger", "broker", "service", "failpoint"])),
    ("testkit", Some(&[])),
    ("e2e", None),
    ("rush", None),
    ("direct", None),
    ("bench", None),
    ("xtask", None),
    ("model", Some(&["booking"])),
];

/// What any crate of ours may use in its tests.
const FOR_TESTS: &str = "testkit";

/// Libraries with one owner: the only crate that speaks that language.
const OWNERS: [(&str, &str); 7] = [
    ("sqlx", "ledger"),
    ("jiff-sqlx", "ledger"),
    ("redis", "inventory"),
    ("deadpool-redis", "inventory"),
    ("lapin", "broker"),
    ("axum", "gateway"),
    ("utoipa-axum", "gateway"),
];

/// A development crate that may speak all of them: it is the way to book that was not taken.
const FOREIGN: &str = "direct";

/// One dependency in a manifest.
#[derive(Debug, PartialEq)]
struct Dependency {
    name: String,
    line: usize,
    is_for_tests: bool,
}

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let manifests = sources.iter().filter_map(|source| {
        let folder = source.path.strip_suffix("/Cargo.toml")?;
        (!folder.contains('/')).then_some((folder, source))
    });
    manifests.flat_map(|(name, source)| check_crate(name, source)).collect()
}

fn check_crate(name: &str, manifest: &Source) -> Vec<String> {
    let Some((_, allowed)) = INTERNAL.iter().find(|(known, _)| *known == name) else {
        return vec![format!("{}:1: crate {name} is not in tidy's table of rings", manifest.path)];
    };
    let mut complaints = Vec::new();
    for dependency in dependencies(&manifest.text) {
        let Dependency { name: used, line, is_for_tests } = &dependency;
        let is_ours = INTERNAL.iter().any(|(known, _)| known == used);
        let is_allowed = allowed.is_none_or(|allowed| allowed.contains(&used.as_str()));
        let is_test_help = *is_for_tests && used == FOR_TESTS && name != FOR_TESTS;
        if is_ours && !is_allowed && !is_test_help && used != name {
            complaints.push(format!("{}:{line}: {name} must not use {used}", manifest.path));
        }
        let owner = OWNERS.iter().find(|(library, _)| library == used).map(|(_, owner)| *owner);
        if owner.is_some_and(|owner| owner != name && name != FOREIGN) {
            let owner = owner.unwrap_or_default();
            complaints.push(format!("{}:{line}: only {owner} may use {used}", manifest.path));
        }
    }
    complaints
}

/// The dependencies of a manifest. Reads as much TOML as manifests need.
fn dependencies(manifest: &str) -> Vec<Dependency> {
    let mut found: Vec<Dependency> = Vec::new();
    let mut section = String::new();
    for (index, line) in manifest.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            header.trim_matches(['[', ']']).clone_into(&mut section);
        }
        let is_for_tests = section.contains("dev-dependencies");
        let (place, entry) = match section.rsplit_once("dependencies") {
            Some((_, "")) => match line.split_once('=') {
                Some((key, value)) => (key.split('.').next().unwrap_or_default().trim(), value),
                None => continue,
            },
            // A table of its own: `[dependencies.name]`.
            Some((_, table)) => (table.trim_start_matches('.'), line),
            None => continue,
        };
        let renamed = entry.split_once("package").and_then(|(_, rest)| rest.split('"').nth(1));
        let name = renamed.unwrap_or(place.trim_matches('"')).to_owned();
        if !found.iter().any(|known| known.name == name && known.is_for_tests == is_for_tests) {
            found.push(Dependency { name, line: index + 1, is_for_tests });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::source;

    fn complaints(name: &str, manifest: &str) -> Vec<String> {
        check(&[source(&format!("{name}/Cargo.toml"), manifest)])
    }

    #[test]
    fn programs_do_not_use_each_other_not_even_in_tests() {
        let found = complaints("gateway", "[dev-dependencies]\nbooking-worker.workspace = true\n");
        assert_eq!(found, ["gateway/Cargo.toml:2: gateway must not use booking-worker"]);
        assert!(complaints("gateway", "[dependencies]\nledger.workspace = true\n").is_empty());
    }

    #[test]
    fn crates_that_speak_to_servers_know_only_the_domain() {
        let manifest = "[dependencies]\nbooking = { path = \"../booking\" }\nledger = \"1\"\n";
        assert_eq!(
            complaints("inventory", manifest),
            ["inventory/Cargo.toml:3: inventory must not use ledger"]
        );
        assert_eq!(complaints("booking", "[dependencies]\nservice.workspace = true\n").len(), 1);
    }

    #[test]
    fn test_help_is_for_tests_and_uses_nothing_of_ours() {
        let manifest = |section| format!("[{section}]\ntestkit.workspace = true\n");
        assert!(complaints("ledger", &manifest("dev-dependencies")).is_empty());
        assert_eq!(complaints("ledger", &manifest("dependencies")).len(), 1);
        assert_eq!(complaints("testkit", "[dependencies]\nbooking.workspace = true\n").len(), 1);
    }

    #[test]
    fn a_server_library_has_one_owner_also_under_another_name() {
        let manifest = "[dependencies]\nsql = { package = \"sqlx\", version = \"0.9\" }\n";
        assert_eq!(
            complaints("gateway", manifest),
            ["gateway/Cargo.toml:2: only ledger may use sqlx"]
        );
        assert!(complaints("ledger", manifest).is_empty());
        let table = "[target.'cfg(unix)'.dependencies.redis]\nversion = \"1\"\n";
        assert_eq!(complaints("e2e", table).len(), 1);
    }

    #[test]
    fn a_crate_nobody_placed_is_found() {
        assert_eq!(complaints("helpers", "[dependencies]\n").len(), 1);
    }
}
