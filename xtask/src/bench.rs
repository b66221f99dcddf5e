//! `cargo xtask bench`: one hot slot, booked directly with a row lock and through this pipeline.
//!
//! Both run on the same PostgreSQL with the same durability, in one run, by turns, because only
//! figures taken side by side on one machine can be compared.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use testkit::{Postgres, Programs};

use crate::command;
use crate::cpu;
use crate::demo::{self, Stages};
use crate::interrupt::unless_interrupted;
use crate::stack::{Options, Stack};
use crate::workspace::private_folder;

/// The usual way to book: lock the slot's row, look, insert, count, commit.
const DIRECT: &str = "\\set patient random(1, 2000000000)
BEGIN;
SELECT capacity - booked FROM slot WHERE id = 1 FOR UPDATE;
INSERT INTO appointment (slot_id, patient_id) VALUES (1, :patient);
UPDATE slot SET booked = booked + 1 WHERE id = 1;
COMMIT;
";
const DIRECT_TABLES: &str = "
DROP TABLE IF EXISTS appointment, slot;
CREATE TABLE slot (id bigint PRIMARY KEY, capacity integer NOT NULL, booked integer NOT NULL);
CREATE TABLE appointment (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slot_id bigint NOT NULL REFERENCES slot, patient_id bigint NOT NULL);
INSERT INTO slot VALUES (1, 2000000000, 0);
";
/// Whose processor time is told.
const PARTS: [&str; 5] = ["gateway-1", "worker-1", "redis", "rabbitmq", "postgres"];
const DIRECT_CLIENTS: &str = "16";

/// Options of the comparison.
#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// Rounds of each
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
    rounds: u8,
    /// Bookings of a round through the pipeline
    #[arg(long, default_value_t = 40_000, value_parser = clap::value_parser!(u32).range(1_000..=500_000))]
    bookings: u32,
    /// Seconds of a round of direct bookings
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=120))]
    direct_seconds: u32,
    /// Print one JSON object on the last line
    #[arg(long)]
    json: bool,
}

/// What one round through the pipeline gave.
#[derive(Debug, Serialize)]
struct Round {
    /// From the opening until the last patient was told that the place is certain, bookings/s.
    accepted_per_s: f64,
    /// From the opening until the last booking was durable, bookings/s.
    persisted_per_s: f64,
    /// From the opening until the last patient knew how it ended, bookings/s.
    told_per_s: f64,
    /// Processor time a booking cost, by process, µs.
    cpu_us: BTreeMap<&'static str, f64>,
}

/// What the comparison came to.
#[derive(Debug, Serialize)]
struct Comparison {
    /// Direct bookings persisted per second, by round.
    direct_per_s: Vec<f64>,
    /// The pipeline, by round.
    pipeline: Vec<Round>,
    /// Median of persisted / direct, pair by pair.
    ratio: f64,
    /// Resident memory before any load, MB.
    idle_gateway_mb: f64,
    /// The same.
    idle_worker_mb: f64,
}

/// Compares and reports.
pub(crate) async fn run(bench: Bench) -> Result<()> {
    let stages = Stages::start();
    stages.say("building, optimised (minutes the first time)");
    unless_interrupted(command::build_programs(true)).await?;
    if folder().exists() {
        Stack::open(&folder(), Options::default())?.stop().await?;
        Postgres::delete_elsewhere(&folder().join("postgres"));
        fs::remove_dir_all(folder()).context("cannot delete the last comparison's data")?;
    }
    let options = Options {
        release: true,
        use_settings: false,
        // The crowd comes from one machine, as fast as it can: limits would measure themselves.
        environment: vec![("SLOTRUSH_LIMITS".to_owned(), "off".to_owned())],
        ..Options::default()
    };
    let mut stack = Stack::start(&folder(), options).await?;
    let result = unless_interrupted(compare(&bench, &stack, &stages)).await;
    stack.stop().await?;
    let comparison = result?;
    print(&comparison);
    if bench.json {
        println!("{}", serde_json::to_string(&comparison)?);
    }
    Ok(())
}

async fn compare(bench: &Bench, stack: &Stack, stages: &Stages) -> Result<Comparison> {
    let password = demo::make_admin(stack).await?;
    let idle_gateway_mb = resident_mb(stack, "gateway-1").await?;
    let idle_worker_mb = resident_mb(stack, "worker-1").await?;
    let (mut direct_per_s, mut pipeline) = (vec![], vec![]);
    for round in 1..=bench.rounds {
        stages.say(&format!("round {round}: direct bookings with SELECT … FOR UPDATE"));
        direct_per_s.push(direct(bench, stack).await?);
        stages.say(&format!("round {round}: {} bookings of one slot", bench.bookings));
        pipeline.push(through_pipeline(bench, stack, &password).await?);
    }
    let pairs = pipeline.iter().zip(&direct_per_s);
    let mut ratios: Vec<f64> =
        pairs.map(|(round, direct)| round.persisted_per_s / direct).collect();
    ratios.sort_by(f64::total_cmp);
    let ratio = ratios[ratios.len() / 2];
    Ok(Comparison { direct_per_s, pipeline, ratio, idle_gateway_mb, idle_worker_mb })
}

/// Books directly for a while; returns bookings per second.
async fn direct(bench: &Bench, stack: &Stack) -> Result<f64> {
    let bin = Programs::find().postgres_bin.context("PostgreSQL's programs are not here")?;
    let url = stack.database_url();
    let server = url.rsplit_once('/').map_or(url.as_str(), |(server, _)| server);
    let database = format!("{server}/direct");
    let psql = |url: &str, sql: &str| {
        let mut psql = Command::new(bin.join("psql"));
        psql.args([url, "-q", "-c", sql]).stdout(Stdio::null()).stderr(Stdio::null());
        psql
    };
    // It is there already in every round but the first.
    command::run(&mut psql(&url, "CREATE DATABASE direct")).await?;
    command::succeed(&mut psql(&database, DIRECT_TABLES)).await?;
    let script = folder().join("direct.sql");
    fs::write(&script, DIRECT)?;
    let output = folder().join("direct.txt");
    let mut pgbench = Command::new(bin.join("pgbench"));
    pgbench.args(["-n", "-c", DIRECT_CLIENTS, "-j", "2", "-M", "prepared"]);
    pgbench.args(["-T", &bench.direct_seconds.to_string(), "-f"]).arg(script).arg(&database);
    pgbench.stdout(File::create(&output)?).stderr(Stdio::null());
    command::succeed(&mut pgbench).await?;
    let text = fs::read_to_string(output)?;
    per_second(&text).context("pgbench told no rate")
}

/// Finds `tps = 2345.6 (without …)` in what pgbench printed.
fn per_second(pgbench: &str) -> Option<f64> {
    pgbench
        .lines()
        .find_map(|line| line.strip_prefix("tps = ")?.split_whitespace().next()?.parse().ok())
}

/// Lets as many patients as there are places book one slot; fails if an invariant is broken.
async fn through_pipeline(bench: &Bench, stack: &Stack, password: &str) -> Result<Round> {
    let report = folder().join("report.json");
    let count = bench.bookings.to_string();
    let mut rush = demo::rush_command(stack, password)?;
    rush.args(["run", "--json", "--patients", &count, "--places", &count]);
    rush.args(["--sessions", "1", "--slots-per-session", "1", "--early-percent", "0"]);
    rush.args(["--first-second-percent", "100", "--tail-ms", "0", "--double-click-percent", "0"]);
    rush.args(["--same-key-percent", "0", "--new-key-percent", "0", "--other-slot-percent", "0"]);
    let before = cpu_by_part(stack);
    command::succeed(rush.stdout(File::create(&report)?)).await?;
    let after = cpu_by_part(stack);
    let text = fs::read_to_string(report)?;
    let last = text.lines().last().context("the crowd reported nothing")?;
    let report: serde_json::Value = serde_json::from_str(last)?;
    let field = |name: &str| report[name].as_f64().with_context(|| format!("no {name} reported"));
    let booked = field("booked")?;
    let per_second = |name: &str| match field(name)? {
        ms if ms > 0.0 => Ok(booked * 1_000.0 / ms),
        _ => bail!("the round was too short to measure: more bookings"),
    };
    let spent = after.iter().map(|(part, used)| {
        let spent = used.saturating_sub(before[part]);
        (*part, spent.as_secs_f64() * 1e6 / booked)
    });
    Ok(Round {
        accepted_per_s: per_second("answered_ms")?,
        persisted_per_s: per_second("settled_ms")?,
        told_per_s: per_second("rush_ms")?,
        cpu_us: spent.collect(),
    })
}

/// The processor time that each part has used so far. The crowd's includes making its patients; it is
/// what is left of ours, because the parts are our children.
fn cpu_by_part(stack: &Stack) -> BTreeMap<&'static str, Duration> {
    let of = |part| stack.pid(part).map_or(Duration::ZERO, cpu::used);
    let mut used = BTreeMap::from(PARTS.map(|part| (part, of(part))));
    let parts = used.values().sum();
    used.insert("crowd", cpu::used(std::process::id()).saturating_sub(parts));
    used
}

/// The resident memory of a program, once it has come to rest.
async fn resident_mb(stack: &Stack, part: &str) -> Result<f64> {
    const REST: Duration = Duration::from_secs(3);
    let pid = stack.pid(part).with_context(|| format!("{part} does not run"))?;
    let resident = || -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kb = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
        Ok(kb.parse::<f64>()? / 1_024.0)
    };
    let started = Instant::now();
    let mut most = resident()?;
    while started.elapsed() < REST {
        tokio::time::sleep(Duration::from_millis(100)).await;
        most = most.max(resident()?);
    }
    Ok(most)
}

fn print(comparison: &Comparison) {
    println!("\nOne hot slot   direct/s   accepted/s  persisted/s   told/s  persisted/direct");
    for (round, direct) in comparison.pipeline.iter().zip(&comparison.direct_per_s) {
        let Round { accepted_per_s, persisted_per_s, told_per_s, .. } = round;
        let ratio = persisted_per_s / direct;
        println!(
            "{direct:>23.0} {accepted_per_s:>12.0} {persisted_per_s:>12.0} {told_per_s:>8.0} {ratio:>17.1}"
        );
    }
    for round in &comparison.pipeline {
        let costs = round.cpu_us.iter().map(|(part, us)| format!("{part} {us:.0}"));
        println!("µs of CPU a booking: {}", costs.collect::<Vec<_>>().join(", "));
    }
    println!("median ratio {:.1}", comparison.ratio);
    let Comparison { idle_gateway_mb, idle_worker_mb, .. } = comparison;
    println!("idle memory  gateway {idle_gateway_mb:.0} MB, worker {idle_worker_mb:.0} MB");
}

fn folder() -> PathBuf {
    private_folder().join("bench")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_pgbench_is_read() {
        let text =
            "latency average = 6.5 ms\ntps = 2431.250000 (without initial connection time)\n";
        assert_eq!(per_second(text), Some(2431.25));
        assert_eq!(per_second("no rate"), None);
    }
}
