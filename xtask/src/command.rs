//! Running other programs to their end.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use testkit::{ProcessId, Signal};

const POLL: Duration = Duration::from_millis(20);
const END_GRACE: Duration = Duration::from_secs(8);

/// A program in a process group of its own. Dropped early, the whole group is asked to end, then killed.
struct Running {
    child: Child,
    id: Option<ProcessId>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(id) = self.id.filter(|id| id.is_alive()) {
            id.signal_group(Signal::Int);
            let deadline = Instant::now() + END_GRACE;
            while id.is_alive() && Instant::now() < deadline {
                std::thread::sleep(POLL);
            }
            id.kill_group();
        }
        let _ = self.child.wait();
    }
}

/// Runs it with its output on ours and no input. If the future is dropped, it ends.
pub(crate) async fn run(command: &mut Command) -> Result<ExitStatus> {
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command
        .process_group(0)
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let id = ProcessId::of(child.id());
    let mut running = Running { child, id };
    loop {
        if let Some(status) = running.child.try_wait()? {
            return Ok(status);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Runs it and makes a failure an error that says what was run.
pub(crate) async fn succeed(command: &mut Command) -> Result<()> {
    let status = run(command).await?;
    if !status.success() {
        bail!("`{}` ended with {status}", describe(command));
    }
    Ok(())
}

/// The command as one would type it.
pub(crate) fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::workspace::root());
    command
}

/// Builds gateway, worker and crowd. Always all of them at once: each choice of packages has its own
/// features of shared libraries, and would build those again.
pub(crate) async fn build_programs(is_release: bool) -> Result<()> {
    succeed(build().args(build_kind(is_release))).await
}

/// Builds the same and what measures them and what they are compared with, optimised.
pub(crate) async fn build_bench() -> Result<()> {
    succeed(build().args(["-p", "direct", "-p", "bench"]).args(build_kind(true))).await
}

/// Builds the same and what breaks them, not optimised: that is built fastest, and tests have it.
pub(crate) async fn build_chaos() -> Result<()> {
    succeed(build().args(["-p", "e2e"]).args(build_kind(false))).await
}

fn build() -> Command {
    let mut cargo = cargo();
    cargo.args(["build", "--quiet", "--locked", "--bins"]);
    cargo.args(["-p", "gateway", "-p", "booking-worker", "-p", "rush"]);
    cargo
}

/// Builds for users are optimised and have no failpoints; builds for developers and tests have.
fn build_kind(is_release: bool) -> &'static [&'static str] {
    if is_release { &["--release"] } else { &WITH_FAILPOINTS }
}

/// What gives the programs their failpoints.
pub(crate) const WITH_FAILPOINTS: [&str; 2] =
    ["--features", "gateway/failpoints,booking-worker/failpoints"];

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_says_what_was_run() {
        let error = succeed(Command::new("sh").args(["-c", "exit 3"])).await;
        let error = error.expect_err("it fails").to_string();
        assert!(error.contains("sh -c exit 3") && error.contains('3'), "{error}");
    }

    #[test]
    fn an_optimised_build_has_no_failpoints() {
        assert_eq!(build_kind(true), ["--release"]);
        assert_eq!(build_kind(false), WITH_FAILPOINTS);
    }

    #[tokio::test]
    async fn a_dropped_program_ends() {
        let marker = format!("6{}", std::process::id());
        let mut command = Command::new("sleep");
        command.arg(&marker);
        let within = Duration::from_millis(100);
        assert!(tokio::time::timeout(within, run(&mut command)).await.is_err());
        let is_running = std::fs::read_dir("/proc").expect("/proc").flatten().any(|entry| {
            std::fs::read(entry.path().join("cmdline"))
                .is_ok_and(|line| line == format!("sleep\0{marker}\0").as_bytes())
        });
        assert!(!is_running);
    }
}
