//! One of the programs, as a process.

use std::env;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::{Process, ProcessId, Signal, eventually};

use crate::SOON;
use crate::reach::http_get;

const SIGKILL: i32 = 9;

/// Where a program of this build is.
///
/// Building it is not this crate's job: `cargo xtask test` builds the workspace before it tests.
pub fn binary(name: &str) -> Result<PathBuf> {
    let this = env::current_exe()?;
    let folder = this.parent().context("a program lies in a folder")?;
    // Programs are in target/<profile>, tests in a folder of it.
    let is_test = folder.ends_with("deps");
    let folder =
        if is_test { folder.parent().context("a test lies in target/…")? } else { folder };
    let program = folder.join(name);
    ensure!(
        program.is_file(),
        "{} is not built: run `cargo xtask test`, or `cargo build --workspace` first",
        program.display()
    );
    Ok(program)
}

/// A command for a program of this build that hears nothing of the settings around the test.
pub fn command(name: &str, settings: &[(&str, String)]) -> Result<Command> {
    let mut command = Command::new(binary(name)?);
    let inherited = env::vars().map(|(name, _)| name);
    for name in inherited.filter(|name| name.starts_with("SLOTRUSH_")) {
        command.env_remove(name);
    }
    command.envs(settings.iter().map(|(name, value)| (*name, value)));
    Ok(command)
}

/// A running gateway or worker. Ends with the test.
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    settings: Vec<(&'static str, String)>,
    log: PathBuf,
    /// Where operators connect.
    admin_port: u16,
    process: Process,
}

impl Program {
    /// Starts it; see [`Program::ready`].
    pub fn start(
        name: &'static str,
        mut settings: Vec<(&'static str, String)>,
        admin_port: u16,
        log: PathBuf,
    ) -> Result<Self> {
        settings.push(("SLOTRUSH_FAILPOINTS", format!("@{}", plan(&log).display())));
        let process = spawn(name, &settings, &log)?;
        Ok(Self { name, settings, log, admin_port, process })
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Which process it is in this life.
    pub fn id(&self) -> ProcessId {
        self.process.id()
    }

    /// Where it serves its metrics, in this life and those to come.
    pub fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// Waits until it says that it is ready. Fails when it ends first, with the end of its log.
    pub async fn ready(&mut self) -> Result<()> {
        self.ready_within(SOON).await
    }

    /// The same, where it has more to read than a test makes.
    pub async fn ready_within(&mut self, within: Duration) -> Result<()> {
        let port = self.admin_port;
        let is_ready = async || http_get(port, "/readyz").await.is_ok_and(|reply| reply.0 == 200);
        self.process.ready(within, is_ready).await
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it on the same ports after its end, without waiting until it is ready.
    pub fn start_again(&mut self) -> Result<()> {
        self.process.kill();
        self.process = spawn(self.name, &self.settings, &self.log)?;
        Ok(())
    }

    /// Makes it stand still (SIGSTOP).
    pub fn pause(&self) {
        self.process.id().signal(Signal::Stop);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.process.id().signal(Signal::Cont);
    }

    /// Its exit status, if it has ended.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.process.exit_status()
    }

    /// Says what is to happen at its failpoints from now on, in this life and those to come; see the
    /// crate `failpoint`.
    pub fn arm(&self, entries: &str) -> Result<()> {
        // In one piece: it is read at any time.
        let written = self.log.with_extension("failpoints-new");
        fs::write(&written, entries)?;
        fs::rename(&written, plan(&self.log))?;
        Ok(())
    }

    /// Waits until it has killed itself at `point`, for the `nth` time in all its lives.
    pub async fn died_at(&mut self, point: &str, nth: usize) -> Result<()> {
        let status = self.ended(SOON).await.with_context(|| {
            format!("{point} was not reached, or {} was built without failpoints", self.name)
        })?;
        ensure!(status.signal() == Some(SIGKILL), "{status} at {point}");
        let reached = self.reached(point)?;
        ensure!(reached == nth, "{} reached {point} {reached} times, not {nth}", self.name);
        Ok(())
    }

    /// Counts how often something happened at `point` in all its lives.
    pub fn reached(&self, point: &str) -> Result<usize> {
        let mark = format!("failpoint {point}: ");
        Ok(self.log()?.lines().filter(|line| line.starts_with(&mark)).count())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.id().signal(signal);
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        self.process.id().signal(Signal::Term);
    }

    /// Waits for its end.
    pub async fn ended(&mut self, within: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        eventually(&what, within, || {
            let status = self.process.exit_status();
            async move { status }
        })
        .await
    }

    /// Reads its metrics.
    pub async fn metrics(&self) -> Result<String> {
        let (status, body) = http_get(self.admin_port, "/metrics").await?;
        ensure!(status == 200, "/metrics: {status}");
        Ok(body)
    }

    /// Reads all it has logged, over all its lives.
    pub fn log(&self) -> Result<String> {
        let bytes =
            fs::read(&self.log).with_context(|| format!("reading {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Where a program with this log finds what is to happen at its failpoints.
fn plan(log: &Path) -> PathBuf {
    log.with_extension("failpoints")
}

fn spawn(name: &str, settings: &[(&str, String)], log: &Path) -> Result<Process> {
    Process::spawn(name, &mut command(name, settings)?, Signal::Term, log)?.guarded(&[])
}
