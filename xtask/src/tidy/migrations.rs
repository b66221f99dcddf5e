//! Migrations that have landed do not change: databases that ran them would not notice.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

const FOLDER: &str = "migrations";
const LIST: &str = "migrations/CHECKSUMS";

/// Name of a migration to its SHA-256.
type Sums = BTreeMap<String, String>;

pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let listed = fs::read_to_string(root.join(LIST)).unwrap_or_default();
    Ok(compare(&sums(root)?, &parse(&landed(root)), &parse(&listed)))
}

/// Adds the migrations that are not listed yet, and what changed of those that have not landed.
pub(super) fn record(root: &Path) -> Result<()> {
    let mut sums = sums(root)?;
    sums.extend(parse(&landed(root)));
    let lines: Vec<String> = sums.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect();
    fs::write(root.join(LIST), lines.concat()).context("cannot write the checksums")
}

fn compare(now: &Sums, landed: &Sums, listed: &Sums) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, sum) in landed {
        match now.get(name) {
            Some(current) if current == sum => {}
            Some(_) => complaints.push(format!(
                "{FOLDER}/{name}:1: changed after it landed; write a new migration instead"
            )),
            None => complaints.push(format!("{FOLDER}/{name}:1: deleted after it landed")),
        }
    }
    for (name, sum) in now.iter().filter(|(name, _)| !landed.contains_key(*name)) {
        if listed.get(name) != Some(sum) {
            complaints.push(format!(
                "{FOLDER}/{name}:1: not in {LIST} as it is now; run `cargo xtask tidy --record`"
            ));
        }
    }
    for (name, sum) in landed.iter().filter(|(name, sum)| listed.get(*name) != Some(sum)) {
        complaints.push(format!("{LIST}:1: must keep the line `{sum}  {name}`"));
    }
    complaints
}

/// The list as of the last commit; empty outside of a repository.
fn landed(root: &Path) -> String {
    let git = Command::new("git")
        .args(["show", &format!("HEAD:{LIST}")])
        .current_dir(root)
        .stdin(Stdio::null())
        .output();
    match git {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        _ => String::new(),
    }
}

/// Reads what `sha256sum` prints.
fn parse(text: &str) -> Sums {
    let lines = text.lines().filter_map(|line| line.split_once("  "));
    lines.map(|(sum, name)| (name.trim().to_owned(), sum.to_owned())).collect()
}

fn sums(root: &Path) -> Result<Sums> {
    let folder = root.join(FOLDER);
    let mut names: Vec<String> = fs::read_dir(&folder)?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "sql"))
        .collect();
    names.sort();
    if names.is_empty() {
        return Ok(Sums::new());
    }
    let output = Command::new("sha256sum")
        .args(&names)
        .current_dir(&folder)
        .output()
        .context("cannot start sha256sum")?;
    if !output.status.success() {
        bail!("sha256sum: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(parse(&String::from_utf8(output.stdout)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(&str, &str)]) -> Sums {
        entries.iter().map(|&(name, sum)| (name.to_owned(), sum.to_owned())).collect()
    }

    #[test]
    fn a_landed_migration_neither_changes_nor_goes() {
        let landed = list(&[("1.sql", "aa"), ("2.sql", "bb")]);
        assert!(compare(&landed, &landed, &landed).is_empty());
        let changed = compare(&list(&[("1.sql", "xx"), ("2.sql", "bb")]), &landed, &landed);
        assert!(changed.len() == 1 && changed[0].contains("changed"), "{changed:?}");
        let deleted = compare(&list(&[("1.sql", "aa")]), &landed, &landed);
        assert!(deleted.len() == 1 && deleted[0].contains("deleted"), "{deleted:?}");
    }

    #[test]
    fn changing_the_list_with_it_does_not_help() {
        let landed = list(&[("1.sql", "aa")]);
        let changed = list(&[("1.sql", "xx")]);
        assert_eq!(compare(&changed, &landed, &changed).len(), 2);
    }

    #[test]
    fn a_new_migration_must_be_listed_as_it_is() {
        let now = list(&[("1.sql", "aa")]);
        assert_eq!(compare(&now, &Sums::new(), &Sums::new()).len(), 1);
        assert_eq!(compare(&now, &Sums::new(), &list(&[("1.sql", "old")])).len(), 1);
        assert!(compare(&now, &Sums::new(), &now).is_empty());
    }
}
