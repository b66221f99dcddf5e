//! Processes by id: signals, and what is left of a server that outlives its starter.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub(crate) const POLL: Duration = Duration::from_millis(10);
const KILL_GRACE: Duration = Duration::from_secs(5);

/// A signal, by what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Please end.
    Term,
    /// Please end: what PostgreSQL calls a fast shutdown.
    Int,
    /// End without tidying up: what PostgreSQL calls an immediate shutdown.
    Quit,
    /// End now; cannot be refused.
    Kill,
    /// Stand still.
    Stop,
    /// Go on after a `Stop`.
    Cont,
}

impl Signal {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Cont => "CONT",
        }
    }
}

/// One process for its whole life: its id, and when it started (in clock ticks since boot), because
/// the kernel uses ids again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The kernel's id.
    pub pid: u32,
    /// Field `starttime` of `/proc/<pid>/stat`.
    pub started: u64,
}

impl ProcessId {
    /// The process that has this id now; `None` if there is none, or only an unreaped one.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, started: start_of_running(&stat)? })
    }

    /// Is this very process still running?
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal to it, if it is still the same process.
    pub fn signal(self, signal: Signal) {
        if self.is_alive() {
            send(signal, &self.pid.to_string());
        }
    }

    /// Sends a signal to every process of the group it leads, if it is still the same process.
    pub fn signal_group(self, signal: Signal) {
        if self.is_alive() {
            send(signal, &format!("-{}", self.pid));
        }
    }

    /// Sends a signal to it and to all its descendants, if it is still the same process: a server's
    /// processes may lead groups of their own.
    pub fn signal_tree(self, signal: Signal) {
        if !self.is_alive() {
            return;
        }
        if signal == Signal::Stop {
            // The parent first: one that stands still starts no more.
            send(signal, &self.pid.to_string());
        }
        let mut pids = vec![self.pid];
        let mut next = 0;
        while let Some(parent) = pids.get(next).copied() {
            pids.extend(children(parent));
            next += 1;
        }
        for pid in pids {
            send(signal, &pid.to_string());
        }
    }

    /// Kills what is left of the group it leads or led. Only for a child that was not waited for yet, or
    /// one known to have been alive just now: later the id may be another group's.
    pub fn kill_group(self) {
        send(Signal::Kill, &format!("-{}", self.pid));
    }

    /// Asks it to end and waits; after `grace` it and its process group are killed.
    pub async fn stop(self, signal: Signal, grace: Duration) {
        if !self.is_alive() {
            return;
        }
        self.signal(signal);
        self.ended(grace).await;
        // Also after its own end: helpers it started are in its group.
        self.kill_group();
        self.ended(KILL_GRACE).await;
    }

    pub(crate) async fn ended(self, within: Duration) {
        let deadline = Instant::now() + within;
        while self.is_alive() && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
        }
    }
}

/// When a process started, from its line in `/proc`; `None` if it has ended.
///
/// A killed process shows as ended as soon as its first thread has, while others still hold its
/// files: until the last is gone, its ports are taken.
fn start_of_running(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses and may contain anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let threads: u32 = fields.nth(16)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    let has_ended = matches!(state, "Z" | "X") && threads <= 1;
    (!has_ended).then_some(started)
}

/// The ids of a process's children.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        fields.nth(1).and_then(|field| field.parse().ok()) == Some(parent)
    };
    pids.filter(is_child).collect()
}

/// The shell's own `kill`: the program of that name is not in every small image, and a system call
/// would need `unsafe`.
fn send(signal: Signal, target: &str) {
    let _ = Command::new("sh")
        .args(["-c", r#"kill -s "$0" -- "$1""#, signal.name(), target])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// A process that was left running: enough to find and end it later, from another process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Detached {
    /// What to call it in output.
    pub name: String,
    /// Which process.
    pub id: ProcessId,
    /// How to ask it to end.
    pub stop: Signal,
    /// Its output.
    pub log: PathBuf,
}

/// A server that was left running.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Server {
    /// Its address with credentials.
    pub url: String,
    /// Its processes, in the order in which to end them.
    pub processes: Vec<Detached>,
}

impl Server {
    /// Are all its processes running?
    pub fn is_alive(&self) -> bool {
        !self.processes.is_empty() && self.processes.iter().all(|process| process.id.is_alive())
    }

    /// Ends all its processes; each gets `grace` to do so itself.
    pub async fn stop(&self, grace: Duration) {
        for process in &self.processes {
            process.id.stop(process.stop, grace).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_ended_when_its_last_thread_has() {
        let stat = |state: &str, threads: u32| {
            format!("7 (a (b) c) {state} 1 7 7 0 -1 4 1 2 3 4 5 6 7 8 20 0 {threads} 0 4242 9 9")
        };
        assert_eq!(start_of_running(&stat("S", 4)), Some(4242));
        assert_eq!(start_of_running(&stat("Z", 3)), Some(4242), "others still end");
        assert_eq!(start_of_running(&stat("Z", 1)), None);
        assert_eq!(start_of_running(&stat("X", 0)), None);
    }

    #[test]
    fn we_are_running() {
        assert!(ProcessId::of(std::process::id()).is_some_and(ProcessId::is_alive));
    }
}
