//! `cargo xtask instructions`: what a request costs the gateway, in instructions, against a budget.
//!
//! Instructions are the same on a busy machine and an idle one, so a cost that crept in is seen. They
//! are no times: callgrind's processor has no instructions for SHA-256, and none of it is the kernel's.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use testkit::stop_shared;

use crate::command;
use crate::install::{ensure_programs, ensure_tool};
use crate::interrupt::unless_interrupted;
use crate::workspace::{private_folder, relative, root};

/// Kinds of requests in the order of their dumps, and what each may cost: 5 % more than measured for
/// those answered at once, 10 % for those that wait for servers and share their questions.
const BUDGETS: [(&str, u64); 5] = [
    ("none", 12_300),
    ("sold_out", 49_200),
    ("accepted", 94_400),
    ("poll_queued", 45_900),
    ("poll_final", 37_700),
];

/// Options of the count.
#[derive(Debug, clap::Args)]
pub(crate) struct Instructions {
    /// Print one JSON object on the last line
    #[arg(long)]
    json: bool,
}

/// Counts, prints, and fails if a budget is exceeded.
pub(crate) async fn run(instructions: Instructions) -> Result<()> {
    ensure_programs().await?;
    let valgrind = ensure_tool("valgrind", "valgrind").await?;
    eprintln!("building, optimised (minutes)");
    let mut build = command::cargo();
    build.args(["build", "--quiet", "--release", "--locked"]);
    build.args(["-p", "gateway", "--example", "instructions"]);
    unless_interrupted(command::succeed(&mut build)).await?;
    let had_servers = private_folder().join("test").exists();
    let counted = unless_interrupted(count(Command::new(valgrind))).await;
    if !had_servers {
        stop_shared().await?;
    }
    let counted = counted?;
    println!("{:<12} {:>12} {:>12}", "instructions", "a request", "budget");
    for (kind, budget) in BUDGETS {
        println!("{kind:<12} {:>12} {budget:>12}", counted[kind]);
    }
    if instructions.json {
        println!("{}", serde_json::to_string(&counted)?);
    }
    let dear = BUDGETS.iter().filter(|(kind, budget)| counted[kind] > *budget);
    let dear: Vec<&str> = dear.map(|(kind, _)| *kind).collect();
    if !dear.is_empty() {
        let seen = relative(&folder());
        bail!("over budget: {}; callgrind_annotate {seen}/callgrind.N says why", dear.join(", "));
    }
    Ok(())
}

/// Returns the instructions of a request, by kind.
async fn count(mut valgrind: Command) -> Result<BTreeMap<&'static str, u64>> {
    if folder().exists() {
        fs::remove_dir_all(folder())?;
    }
    fs::create_dir_all(folder())?;
    let (output, log) = (folder().join("requests.json"), folder().join("log"));
    valgrind.args(["--tool=callgrind", "--collect-atstart=no", "--dump-after=*::end_of_kind"]);
    valgrind.args(["--toggle-collect=*::measured_now", "--toggle-collect=*::measured_together"]);
    valgrind.arg(format!("--callgrind-out-file={}", folder().join("callgrind").display()));
    valgrind.arg(root().join("target/release/examples/instructions"));
    valgrind.stdout(File::create(&output)?).stderr(File::create(&log)?);
    command::succeed(&mut valgrind).await.with_context(|| format!("see {}", relative(&log)))?;
    let requests: BTreeMap<String, u64> = serde_json::from_str(&fs::read_to_string(output)?)?;
    let mut counted = BTreeMap::new();
    for (number, (kind, _)) in (1..).zip(BUDGETS) {
        let dump = fs::read_to_string(folder().join(format!("callgrind.{number}")))?;
        let total = total(&dump).with_context(|| format!("no total in dump {number}"))?;
        counted.insert(kind, total / requests.get(kind).context("a kind without requests")?);
    }
    Ok(counted)
}

/// Reads what a dump of callgrind comes to.
fn total(dump: &str) -> Option<u64> {
    let line = dump.lines().find_map(|line| line.strip_prefix("totals:"));
    line?.trim().parse().ok()
}

fn folder() -> PathBuf {
    private_folder().join("instructions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_says_what_it_comes_to() {
        assert_eq!(total("version: 1\nfn=(1) x\n0 5\ntotals: 17\n"), Some(17));
        assert_eq!(total("version: 1\n"), None);
    }
}
