//! `up`, `down`, `status`, `logs`, `restart`, `reset`.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use testkit::{Postgres, stop_shared};

use super::probe::is_ready;
use super::state::{Part, State};
use super::{Options, Stack};
use crate::interrupt::unless_interrupted;
use crate::workspace::{private_folder, relative};

const LOG_LINES: &str = "100";

/// Where the stack for development lives.
fn folder() -> PathBuf {
    private_folder().join("up")
}

/// Starts what is not running.
pub(crate) async fn up(options: Options) -> Result<()> {
    let mut stack = Stack::start(&folder(), options).await?;
    if std::mem::take(&mut stack.started).is_empty() {
        println!("everything is up already");
    }
    let lines = [
        ("patients and admins", stack.gateway_urls().join(" ")),
        ("how gateways are", stack.gateway_admin_urls().join(" ")),
        ("how workers are", stack.worker_admin_urls().join(" ")),
        ("Redis", stack.redis_url()),
        ("RabbitMQ", stack.amqp_url()),
        ("PostgreSQL", stack.database_url()),
        ("keys", relative(&stack.keys_folder())),
    ];
    println!();
    for (what, place) in lines {
        println!("{what:<20} {place}");
    }
    println!();
    println!(
        "make an admin, once (at least 8 characters of password):\n  {}",
        stack.admin_command()?
    );
    println!();
    println!("see `cargo xtask status`, `logs -f`; `down` stops it, `reset` also deletes its data");
    Ok(())
}

/// Stops everything that is ours.
pub(crate) async fn down() -> Result<()> {
    let mut stopped = stop_shared().await?;
    if folder().exists() {
        stopped.extend(Stack::open(&folder(), Options::default())?.stop().await?);
    }
    for other in other_stacks() {
        // One that is in use is the business of whoever uses it.
        match Stack::open(&other, Options::default()) {
            Ok(mut stack) => stopped.extend(stack.stop().await?),
            Err(error) => println!("left alone: {error:#}"),
        }
    }
    if stopped.is_empty() {
        println!("nothing was running");
    } else {
        println!("stopped {}", stopped.join(", "));
    }
    Ok(())
}

/// Folders of stacks that are not for development, such as one whose command was killed.
fn other_stacks() -> Vec<PathBuf> {
    let entries = fs::read_dir(private_folder()).into_iter().flatten().flatten();
    let folders = entries.map(|entry| entry.path()).filter(|path| *path != folder());
    folders.filter(|path| path.join("state.json").exists()).collect()
}

/// Stops everything and deletes the data.
pub(crate) async fn reset() -> Result<()> {
    down().await?;
    if !folder().exists() {
        return Ok(());
    }
    let stack = Stack::open(&folder(), Options::default())?;
    Postgres::delete_elsewhere(&folder().join("postgres"));
    // The lock's file goes last, with the folder: nobody starts in between.
    fs::remove_dir_all(folder()).context("cannot delete the data")?;
    drop(stack);
    println!("deleted {}", relative(&folder()));
    Ok(())
}

/// Stops parts and starts them again with what is built now.
pub(crate) async fn restart(names: Vec<String>, with_kill: bool) -> Result<()> {
    let mut stack = Stack::open(&folder(), Options::default())?;
    // Before the build, which takes its time.
    for name in &names {
        stack.own_part(name)?;
    }
    let work = async {
        stack.build().await?;
        for name in &names {
            if with_kill {
                stack.kill(name).await?;
            }
            stack.restart(name).await?;
        }
        Ok(())
    };
    unless_interrupted(work).await
}

/// Shows what runs.
pub(crate) async fn status(as_json: bool) -> Result<()> {
    let state = State::read(&folder())?;
    let mut rows = Vec::new();
    for (name, part) in &state.parts {
        rows.push(row(name, part).await);
    }
    if as_json {
        println!("{}", json!({ "release": state.release, "parts": rows }));
        return Ok(());
    }
    if rows.is_empty() {
        println!("nothing is up; start it with `cargo xtask up`");
        return Ok(());
    }
    println!("{:<12} {:<10} {:>8} {:>8}  address", "part", "state", "pid", "MiB");
    for row in rows {
        let text = |field: &str| match &row[field] {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let fields = ["name", "state", "pid", "memory_mib", "url"].map(text);
        let [name, state, pid, memory, url] = fields;
        println!("{name:<12} {state:<10} {pid:>8} {memory:>8}  {url}");
    }
    Ok(())
}

async fn row(name: &str, part: &Part) -> Value {
    let state = match &part.admin_url {
        _ if part.is_foreign => "foreign",
        _ if !part.is_running() => "dead",
        Some(url) if !is_ready(url).await => "not ready",
        Some(_) => "ready",
        None => "running",
    };
    let pid = part.id().filter(|id| id.is_alive()).map(|id| id.pid);
    json!({
        "name": name,
        "state": state,
        "pid": pid,
        "memory_mib": pid.and_then(memory_mib),
        "url": part.server.url,
        "admin_url": part.admin_url,
        "log": part.log(),
    })
}

/// Resident memory of a process.
fn memory_mib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024)
}

/// Shows the end of the logs. `tail` does it better than we would.
pub(crate) fn logs(part: Option<&str>, follow: bool) -> Result<()> {
    let state = State::read(&folder())?;
    let parts = state.parts.iter().filter(|(name, _)| part.is_none_or(|part| part == *name));
    let files: Vec<PathBuf> = parts.filter_map(|(_, part)| part.log()).collect();
    if files.is_empty() {
        let known = state.parts.keys().cloned().collect::<Vec<_>>().join(", ");
        bail!("no logs; running: {}", if known.is_empty() { "nothing" } else { &known });
    }
    let mut tail = Command::new("tail");
    tail.args(["-n", LOG_LINES]).args(follow.then_some("-F")).args(files);
    Err(tail.exec()).context("cannot start tail")
}
