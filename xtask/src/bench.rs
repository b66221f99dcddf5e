//! `cargo xtask bench`: the pipeline measured beside the usual ways to book, on private servers.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use testkit::Postgres;

use crate::command;
use crate::install::ensure_programs;
use crate::interrupt::unless_interrupted;
use crate::lock::Lock;
use crate::workspace::{private_folder, relative, root};

/// Options of a run.
#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// Two rounds of two seconds each, for a first look
    #[arg(long)]
    quick: bool,
    /// Only what these ratios (A1, C1, …) or groups of docs/performance.md need, separated by commas [default: all]
    #[arg(long)]
    only: Option<String>,
    /// Print everything as one JSON object on the last line
    #[arg(long)]
    json: bool,
    /// Draw the latency curves into this folder, for light and dark pages
    #[arg(long)]
    curves: Option<PathBuf>,
    /// End with an error if a ratio misses its gate
    #[arg(long)]
    gates: bool,
}

/// Builds everything, optimised, and runs it.
pub(crate) async fn run(bench: Bench) -> Result<()> {
    ensure_programs().await?;
    eprintln!("building, optimised (minutes)");
    unless_interrupted(command::build_bench()).await?;
    let _lock = Lock::take_beside(&folder())?;
    forget_the_last()?;
    let status = unless_interrupted(command::run(&mut invocation(&bench))).await?;
    match status.code() {
        Some(0) => Ok(()),
        Some(1) => bail!("a gate was missed, see above"),
        _ => bail!("it did not run to its end, see above; logs are in {}", relative(&folder())),
    }
}

fn invocation(bench: &Bench) -> Command {
    let mut command = Command::new(root().join("target/release/bench"));
    command.arg("--folder").arg(folder()).args(["--commit", &commit()]);
    if let Some(only) = &bench.only {
        command.args(["--only", only]);
    }
    if let Some(curves) = &bench.curves {
        command.arg("--curves").arg(curves);
    }
    let switches = [("--quick", bench.quick), ("--json", bench.json), ("--gates", bench.gates)];
    command.args(switches.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name));
    command
}

/// What is measured; a `+` says that files were changed since.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(root()).args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let head = git(&["rev-parse", "--short", "HEAD"]);
    let is_changed = git(&["status", "--porcelain"]).is_some_and(|text| !text.is_empty());
    head.map_or_else(
        || "unknown commit".to_owned(),
        |head| if is_changed { format!("{head}+") } else { head },
    )
}

/// Every run begins with empty servers.
fn forget_the_last() -> Result<()> {
    if folder().exists() {
        Postgres::delete_elsewhere(&folder().join("postgres"));
        fs::remove_dir_all(folder()).context("cannot delete the last run's data")?;
    }
    Ok(())
}

fn folder() -> PathBuf {
    private_folder().join("bench")
}
