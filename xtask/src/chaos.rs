//! `cargo xtask chaos`: the system under load while everything around it breaks, and the verdict.

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
pub(crate) struct Chaos {
    /// How long rounds are begun, minutes; the last one is played to its end
    #[arg(long, default_value = "5")]
    minutes: String,
    /// Draws the same faults again [default: a random one, which is printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Only these kinds of faults, separated by commas; docs/chaos.md lists them [default: all]
    #[arg(long)]
    faults: Option<String>,
    /// Begin with the round of this number, as the seed draws it
    #[arg(long)]
    first_round: Option<u64>,
    /// Every fault lasts this long, seconds [default: as the seed draws it]
    #[arg(long)]
    lasts: Option<u64>,
    /// End after this many rounds, also if minutes are left
    #[arg(long)]
    rounds: Option<u64>,
    /// Print the report as one JSON object on the last line
    #[arg(long)]
    json: bool,
    /// Keep logs and data under .slotrush/chaos/ also if nothing is violated
    #[arg(long)]
    keep_logs: bool,
}

/// Builds everything and runs it.
pub(crate) async fn run(chaos: Chaos) -> Result<()> {
    ensure_programs().await?;
    eprintln!("building gateway, worker and chaos");
    unless_interrupted(command::build_chaos()).await?;
    let _lock = Lock::take_beside(&folder())?;
    forget_the_last()?;
    let status = unless_interrupted(command::run(&mut invocation(&chaos))).await?;
    if !status.success() {
        bail!(
            "something was violated or did not run, see above; logs are in {}",
            relative(&folder())
        );
    }
    Ok(())
}

/// The short form that is part of every test run: two minutes, always the same faults.
pub(crate) fn short() -> Command {
    let mut command = Command::new(root().join("target/debug/chaos"));
    command.args(["--minutes", "2", "--seed", "20"]);
    command
}

fn invocation(chaos: &Chaos) -> Command {
    let mut command = Command::new(root().join("target/debug/chaos"));
    command.args(["--minutes", &chaos.minutes]).arg("--folder").arg(folder());
    let options = [
        ("--seed", chaos.seed.map(|seed| seed.to_string())),
        ("--faults", chaos.faults.clone()),
        ("--first-round", chaos.first_round.map(|number| number.to_string())),
        ("--lasts", chaos.lasts.map(|seconds| seconds.to_string())),
        ("--rounds", chaos.rounds.map(|count| count.to_string())),
    ];
    for (name, value) in options {
        if let Some(value) = value {
            command.args([name, &value]);
        }
    }
    for (name, is_wanted) in [("--json", chaos.json), ("--keep-logs", chaos.keep_logs)] {
        if is_wanted {
            command.arg(name);
        }
    }
    command
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
    private_folder().join("chaos")
}
