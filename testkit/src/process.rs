//! Child processes that are servers: spawn, wait until ready, end, or leave running.

use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process_id::{Detached, POLL, ProcessId, Signal};

const DROP_GRACE: Duration = Duration::from_secs(5);
const LOG_TAIL_LINES: usize = 15;

/// A running child in a process group of its own, killed on drop unless detached.
#[derive(Debug)]
pub struct Process {
    name: String,
    id: ProcessId,
    stop: Signal,
    log: PathBuf,
    /// `None` once detached.
    child: Option<Child>,
    /// Ends the child if this process is killed before it can.
    guard: Option<Child>,
    is_killed: bool,
}

impl Process {
    /// Starts it, with its output appended to `log` and no input. `stop` is how to ask it to end.
    pub fn spawn(name: &str, command: &mut Command, stop: Signal, log: &Path) -> Result<Self> {
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let mut child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let Some(id) = ProcessId::of(child.id()) else {
            let status = child.wait()?;
            bail!("{name} ended at once with {status}\n{}", log_tail(log));
        };
        let child = Some(child);
        let (name, log) = (name.to_owned(), log.to_path_buf());
        Ok(Self { name, id, stop, log, child, guard: None, is_killed: false })
    }

    /// Makes it die with this process even if that is killed, together with these folders.
    pub fn guarded(mut self, scratch: &[&Path]) -> Result<Self> {
        // The shell reads from a pipe that only this process holds: it wakes at this one's end. Who
        // stands still hears nothing but SIGKILL, and PostgreSQL's processes, each in a group of its
        // own, would outlive their parent so: they are made to go on.
        const SCRIPT: &str = r#"
            read -r _
            kill -s "$1" -- "$2"
            children=
            for stat in /proc/[0-9]*/stat; do
                read -r line < "$stat" || continue
                rest=${line##*) }
                rest=${rest#? }
                [ "${rest%% *}" != "$2" ] || children="$children ${line%% *}"
            done
            kill -s CONT -- "$2" $children
            [ "$1" = KILL ] || sleep 1
            kill -s KILL -- "-$2"
            shift 2
            [ $# = 0 ] || rm -rf -- "$@""#;
        let guard = Command::new("sh")
            .args(["-c", SCRIPT, "guard", self.abrupt_end().name()])
            .arg(self.id.pid.to_string())
            .args(scratch)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start sh")?;
        self.guard = Some(guard);
        Ok(self)
    }

    /// Which process it is.
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Its exit status, if it has ended. What it left of its process group ends then, too.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.id.is_alive() {
            return None;
        }
        // Takes care of the group before the status is collected: afterwards its id may be another's.
        self.kill();
        self.child.as_mut().and_then(|child| child.wait().ok())
    }

    /// Asks `probe` until it says yes. Fails when the process ends first, or after `within`; the
    /// error carries the end of its log.
    pub async fn ready<F, Fut>(&mut self, within: Duration, mut probe: F) -> Result<()>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = bool>,
    {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.exit_status() {
                bail!("{} ended with {status}\n{}", self.name, log_tail(&self.log));
            }
            if probe().await {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("{} is not ready after {within:?}\n{}", self.name, log_tail(&self.log));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks it to end and waits; after `grace` it is killed. One that stands still goes on first.
    pub async fn stop(&mut self, grace: Duration) {
        self.id.signal(self.stop);
        self.id.signal_tree(Signal::Cont);
        self.id.ended(grace).await;
        self.kill();
    }

    /// Kills its process group and waits for its end.
    pub fn kill(&mut self) {
        self.end_guard();
        let Some(child) = self.child.as_mut().filter(|_| !self.is_killed) else {
            return;
        };
        // The whole group, also when its leader has ended, and before the leader is reaped: until
        // then its id, which is the group's, is not used again.
        self.id.kill_group();
        let _ = child.wait();
        self.is_killed = true;
    }

    /// Ends it at once, in the way that leaves nothing behind, and waits.
    pub fn end(&mut self) {
        if self.child.is_some() && self.abrupt_end() != Signal::Kill {
            self.id.signal(self.abrupt_end());
            // One that stands still would not hear it, nor would its processes end with it.
            self.id.signal_tree(Signal::Cont);
            let deadline = Instant::now() + DROP_GRACE;
            while self.id.is_alive() && Instant::now() < deadline {
                std::thread::sleep(POLL);
            }
        }
        self.kill();
    }

    /// Lets it outlive this process.
    pub fn detach(&mut self) -> Detached {
        self.end_guard();
        self.child = None;
        Detached { name: self.name.clone(), id: self.id, stop: self.stop, log: self.log.clone() }
    }

    /// PostgreSQL releases its shared memory when told to quit, not when killed.
    fn abrupt_end(&self) -> Signal {
        if self.stop == Signal::Int { Signal::Quit } else { Signal::Kill }
    }

    /// What its guard sees when this process is killed: the pipe's end.
    #[cfg(test)]
    pub(crate) fn orphan(&mut self) {
        drop(self.guard.as_mut().and_then(|guard| guard.stdin.take()));
    }

    fn end_guard(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            let _ = guard.kill();
            let _ = guard.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// The last lines of a log file, for an error message.
fn log_tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LOG_TAIL_LINES);
    format!("{}:\n  {}", log.display(), lines[from..].join("\n  "))
}

/// Writes a file only its owner may read: it holds a password.
pub fn write_private(file: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut open = OpenOptions::new();
    open.write(true).create(true).truncate(true).mode(0o600);
    let mut opened: File =
        open.open(file).with_context(|| format!("cannot write {}", file.display()))?;
    opened.write_all(text.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventually;

    fn sleeper(log: &Path) -> Process {
        let mut command = Command::new("sleep");
        Process::spawn("sleep", command.arg("600"), Signal::Term, log).expect("sleep starts")
    }

    #[tokio::test]
    async fn a_process_dies_when_dropped() {
        let folder = tempfile::tempdir().expect("scratch");
        let process = sleeper(&folder.path().join("log"));
        let id = process.id();
        assert!(id.is_alive());
        drop(process);
        assert!(!id.is_alive());
    }

    #[tokio::test]
    async fn a_detached_process_lives_until_it_is_stopped() {
        let folder = tempfile::tempdir().expect("scratch");
        let left = sleeper(&folder.path().join("log")).detach();
        assert!(left.id.is_alive());
        left.id.stop(left.stop, Duration::from_secs(5)).await;
        assert!(!left.id.is_alive());
    }

    #[tokio::test]
    async fn a_recycled_process_id_is_not_signalled() {
        let folder = tempfile::tempdir().expect("scratch");
        let process = sleeper(&folder.path().join("log"));
        let other = ProcessId { started: process.id().started + 1, ..process.id() };
        other.stop(Signal::Kill, Duration::ZERO).await;
        assert!(process.id().is_alive());
    }

    #[tokio::test]
    async fn a_guarded_process_dies_with_its_killed_owner() {
        let folder = tempfile::tempdir().expect("scratch");
        let scratch = folder.path().join("scratch");
        fs::create_dir(&scratch).expect("scratch");
        let mut process = sleeper(&folder.path().join("log"));
        process = process.guarded(&[&scratch]).expect("guard");
        process.orphan();
        let gone = || async { (!process.id().is_alive() && !scratch.exists()).then_some(()) };
        eventually("the end", Duration::from_secs(5), gone).await.expect("it dies");
    }

    #[tokio::test]
    async fn a_process_that_ends_early_is_not_ready_and_shows_its_log() {
        let folder = tempfile::tempdir().expect("scratch");
        let log = folder.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 0.05; echo no such luck; exit 3"]);
        let mut process = Process::spawn("sh", &mut command, Signal::Term, &log).expect("starts");
        let ready = process.ready(Duration::from_secs(5), || async { false }).await;
        let error = ready.expect_err("it ended").to_string();
        assert!(error.contains("no such luck") && error.contains('3'), "{error}");
    }
}
