//! Installing missing server programs.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use testkit::{ProcessId, Programs, Signal, find_program};

use crate::command;
use crate::workspace::{private_folder, relative};

const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Makes sure that all three server programs are there.
pub(crate) async fn ensure_programs() -> Result<()> {
    let missing = Programs::find().missing_packages();
    if missing.is_empty() {
        return Ok(());
    }
    let Some(prefix) = administrator() else {
        bail!("{}", advice(&missing));
    };
    println!("installing {} (apt-get)", missing.join(", "));
    let log = private_folder().join("install.log");
    fs::create_dir_all(private_folder())?;
    let mappers_before = port_mappers();
    let refreshed = apt_get(&prefix, &["update", "-q"], &log).await;
    let mut install = vec!["install", "-y", "-q", "--no-install-recommends"];
    install.extend(&missing);
    let installed = apt_get(&prefix, &install, &log).await;
    // Also after a failure: a part of them may be installed and running.
    stop_services(&prefix, &missing, &log).await;
    if missing.contains(&"rabbitmq-server") {
        stop_port_mappers(&prefix, &mappers_before).await;
    }
    installed.and(refreshed).with_context(|| {
        format!("could not install; see {}\n{}", relative(&log), advice(&missing))
    })?;
    let still = Programs::find().missing_packages();
    if !still.is_empty() {
        bail!("{} installed, but too old or not found\n{}", still.join(", "), advice(&still));
    }
    Ok(())
}

/// Makes sure that a program is there that only one command of ours needs, and returns where.
pub(crate) async fn ensure_tool(program: &str, package: &str) -> Result<PathBuf> {
    if let Some(found) = find_program(program) {
        return Ok(found);
    }
    let advice = format!("{program} is needed: apt-get install {package}");
    let Some(prefix) = administrator() else { bail!("{advice}") };
    println!("installing {package} (apt-get)");
    let log = private_folder().join("install.log");
    fs::create_dir_all(private_folder())?;
    // An old list of packages may do, where a new one can't be had.
    let _ = apt_get(&prefix, &["update", "-q"], &log).await;
    let install = ["install", "-y", "-q", "--no-install-recommends", package];
    let installed = apt_get(&prefix, &install, &log).await;
    installed.with_context(|| format!("could not install; see {}\n{advice}", relative(&log)))?;
    find_program(program).context(advice)
}

/// What to put before a command that needs root; `None` if we can't become root or there is no apt.
fn administrator() -> Option<Vec<&'static str>> {
    find_program("apt-get")?;
    let is_root = fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line.starts_with("Uid:\t0\t")));
    if is_root {
        return Some(vec![]);
    }
    let sudo = Command::new("sudo")
        .args(["-n", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    sudo.is_ok_and(|status| status.success()).then(|| vec!["sudo", "-n"])
}

fn advice(missing: &[&str]) -> String {
    format!(
        "Slotrush needs redis-server, rabbitmq-server and PostgreSQL 15 or newer. On Debian or Ubuntu:\n    \
         sudo apt-get install --no-install-recommends {}\n\
         or run everything in containers:\n    docker compose up --build",
        missing.join(" ")
    )
}

async fn apt_get(prefix: &[&str], arguments: &[&str], log: &Path) -> Result<()> {
    let mut words = prefix.to_vec();
    words.extend(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    words.extend(arguments);
    logged(&words, log).await
}

async fn logged(words: &[&str], log: &Path) -> Result<()> {
    let output = OpenOptions::new().create(true).append(true).open(log)?;
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdout(output.try_clone()?).stderr(output);
    command::succeed(&mut command).await
}

/// The packages start their servers system-wide and at every boot. Nobody asked for that: they
/// were installed for their programs. Never called for a package that was there before.
async fn stop_services(prefix: &[&str], packages: &[&str], log: &Path) {
    let has_systemd = Path::new("/run/systemd/system").exists();
    for package in packages {
        let service: &[&str] = if has_systemd {
            &["systemctl", "disable", "--now", package]
        } else if Path::new("/etc/init.d").join(package).exists() {
            &["service", package, "stop"]
        } else {
            continue;
        };
        let words = [prefix, service].concat();
        if logged(&words, log).await.is_err() {
            println!("could not stop the system's {package}; see {}", relative(log));
        }
    }
}

/// Running processes of Erlang's port mapper, which outlives the RabbitMQ that started it.
fn port_mappers() -> BTreeSet<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "epmd")
        })
        .collect()
}

async fn stop_port_mappers(prefix: &[&str], before: &BTreeSet<u32>) {
    for pid in port_mappers().difference(before) {
        // Only the system's: whoever started another one meanwhile is not our business.
        let is_default = fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| !String::from_utf8_lossy(&line).contains("-port"));
        let Some(id) = ProcessId::of(*pid).filter(|_| is_default && is_of_rabbitmq(*pid)) else {
            continue;
        };
        if prefix.is_empty() {
            id.stop(Signal::Term, STOP_WITHIN).await;
        } else {
            let mut kill = Command::new(prefix[0]);
            kill.args(&prefix[1..]).args(["kill", &pid.to_string()]);
            let _ = command::run(&mut kill).await;
        }
    }
}

fn is_of_rabbitmq(pid: u32) -> bool {
    let user = fs::read_to_string(format!("/proc/{pid}/status")).ok().and_then(|status| {
        let line = status.lines().find(|line| line.starts_with("Uid:"))?.to_owned();
        line.split_whitespace().nth(1).map(str::to_owned)
    });
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    users.lines().any(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        matches!(fields[..], ["rabbitmq" | "epmd", _, id, ..] if Some(id) == user.as_deref())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_names_exactly_what_is_missing_and_the_other_way() {
        let advice = advice(&["redis-server", "postgresql"]);
        assert!(advice.contains("--no-install-recommends redis-server postgresql\n"), "{advice}");
        assert!(advice.contains("docker compose up"), "{advice}");
    }
}
