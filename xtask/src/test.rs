//! `cargo xtask test`: every check and test, on private servers of its own.

use std::env;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use testkit::{Postgres, Rabbit, find_program};

use crate::chaos;
use crate::command;
use crate::deny;
use crate::install::ensure_programs;
use crate::interrupt::unless_interrupted;
use crate::matrix;
use crate::tidy;
use crate::workspace::private_folder;

/// How one step went.
struct Outcome {
    name: &'static str,
    took: Duration,
    error: Option<String>,
}

/// Address of the servers that the tests share; they end with this.
struct Servers {
    postgres: Postgres,
    rabbit: Rabbit,
}

/// Runs the steps one after the other, all of them even if one fails, and sums up. The servers are
/// ended in any case: on failure, on Ctrl-C, and even if this process is killed.
pub(crate) async fn run(fast: bool) -> Result<()> {
    let mut outcomes = Vec::new();
    let result = unless_interrupted(steps(fast, &mut outcomes)).await;
    println!("\n{:<10} {:>8}", "step", "seconds");
    for Outcome { name, took, error } in &outcomes {
        let verdict = if error.is_some() { "FAILED" } else { "ok" };
        println!("{name:<10} {:>8.1}  {verdict}", took.as_secs_f64());
    }
    result?;
    let failed: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| Some(format!("{}: {}", outcome.name, outcome.error.as_ref()?)))
        .collect();
    if !failed.is_empty() {
        bail!("{} of {} steps failed\n  {}", failed.len(), outcomes.len(), failed.join("\n  "));
    }
    println!("all {} steps passed", outcomes.len());
    Ok(())
}

async fn steps(fast: bool, outcomes: &mut Vec<Outcome>) -> Result<()> {
    let mut format = cargo();
    format.args(["fmt", "--all", "--check"]);
    step("format", outcomes, command::succeed(&mut format)).await;
    step("tidy", outcomes, async { tidy::run(false) }).await;
    step("deny", outcomes, deny::run()).await;
    // This builds the programs too, because they have tests of their own. Building them apart would
    // be with other features of shared libraries, and so from scratch.
    let mut build = runner(fast);
    build.arg("--no-run");
    if !step("build", outcomes, command::succeed(&mut build)).await {
        return Ok(());
    }
    let mut servers = None;
    step("servers", outcomes, async {
        servers = Some(start_servers().await?);
        Ok(())
    })
    .await;
    if let Some(Servers { postgres, rabbit }) = &servers {
        let mut tests = runner(fast);
        tests.arg("--no-fail-fast");
        tests.env("SLOTRUSH_TEST_POSTGRES_URL", postgres.url());
        tests.env("SLOTRUSH_TEST_AMQP_URL", rabbit.url());
        step("tests", outcomes, command::succeed(&mut tests)).await;
    }
    drop(servers);
    if !fast {
        // Chaos waits most of the time, so there is room for the lints beside it; they give way to it,
        // because it measures how soon things recover.
        let (mut chaos, mut lints) = (chaos::short(), yielding(&lints()));
        let (mut broken, mut linted) = (Vec::new(), Vec::new());
        tokio::join!(
            step("chaos", &mut broken, command::succeed(&mut chaos)),
            step("lints", &mut linted, command::succeed(&mut lints)),
        );
        outcomes.extend(broken.into_iter().chain(linted));
    }
    Ok(())
}

/// Runs one step, notes how it went, and tells whether it went well.
async fn step(
    name: &'static str,
    outcomes: &mut Vec<Outcome>,
    work: impl Future<Output = Result<()>>,
) -> bool {
    println!("==> {name}");
    let _ = std::io::stdout().flush();
    let start = Instant::now();
    let error = work.await.err().map(|error| format!("{error:#}"));
    if let Some(error) = &error {
        println!("{name} failed: {error}");
    }
    let is_ok = error.is_none();
    outcomes.push(Outcome { name, took: start.elapsed(), error });
    is_ok
}

fn lints() -> Command {
    let mut lints = cargo();
    lints.args(["clippy", "--quiet", "--workspace", "--all-targets", "--locked"]);
    lints.args(command::WITH_FAILPOINTS).args(["--", "-D", "warnings"]);
    lints
}

/// The same command, giving way to everything else.
fn yielding(command: &Command) -> Command {
    let mut nice = Command::new("nice");
    nice.args(["-n", "19"]).arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        nice.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => nice.env(name, value),
            None => nice.env_remove(name),
        };
    }
    nice
}

async fn start_servers() -> Result<Servers> {
    ensure_programs().await?;
    let folder = private_folder().join("check");
    fs::create_dir_all(&folder)?;
    // A scratch folder each: two runs at once do not meet, and nothing stays.
    let (postgres, rabbit) =
        tokio::try_join!(Postgres::start_scratch(&folder), Rabbit::start_scratch(&folder))?;
    Ok(Servers { postgres, rabbit })
}

/// Runs the crash matrix and writes its lines to the page.
pub(crate) async fn crash_matrix() -> Result<()> {
    unless_interrupted(async {
        let folder = private_folder().join("crash-matrix");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        let Servers { postgres, rabbit } = &start_servers().await?;
        let mut tests = runner(false);
        tests.env("SLOTRUSH_TEST_POSTGRES_URL", postgres.url());
        tests.env("SLOTRUSH_TEST_AMQP_URL", rabbit.url());
        tests.env("SLOTRUSH_CRASH_MATRIX", &folder);
        tests.arg("crash::points::");
        command::succeed(&mut tests).await?;
        matrix::write(&folder)
    })
    .await
}

/// nextest if there is one, else cargo's own runner.
fn runner(fast: bool) -> Command {
    let mut command = cargo();
    if find_program("cargo-nextest").or_else(cargo_home_nextest).is_some() {
        command.args(["nextest", "run", "--config-file", "xtask/nextest.toml"]);
        // The crash matrix mostly waits: two at a time on each processor. Other tests count twice.
        let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        command.env("NEXTEST_TEST_THREADS", (2 * processors).to_string());
    } else {
        command.arg("test");
    }
    command.args(["--workspace", "--locked"]).args(command::WITH_FAILPOINTS);
    if fast {
        command.args(["--exclude", "e2e"]);
    }
    command
}

fn cargo_home_nextest() -> Option<std::path::PathBuf> {
    let nextest = Path::new(&env::var_os("CARGO_HOME")?).join("bin/cargo-nextest");
    nextest.is_file().then_some(nextest)
}

/// cargo, without settings that are meant for a running system.
fn cargo() -> Command {
    let mut command = command::cargo();
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("SLOTRUSH_") {
            command.env_remove(&name);
        }
    }
    if env::var("CI").is_ok_and(|ci| ci == "true") {
        // Nothing is built twice there: tracking changes would only cost time and disk.
        command.env("CARGO_INCREMENTAL", "0");
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_yields_runs_the_same() {
        let mut command = Command::new("printenv");
        command.arg("WORD").env("WORD", "the same").current_dir("/");
        let output = yielding(&command).output().expect("it runs");
        assert_eq!(output.stdout, b"the same\n");
    }

    #[tokio::test]
    async fn a_failed_step_is_noted_and_the_next_one_runs() {
        let mut outcomes = Vec::new();
        assert!(!step("first", &mut outcomes, async { bail!("no luck") }).await);
        assert!(step("second", &mut outcomes, async { Ok(()) }).await);
        let errors: Vec<_> = outcomes.iter().map(|outcome| outcome.error.as_deref()).collect();
        assert_eq!(errors, [Some("no luck"), None]);
    }
}
