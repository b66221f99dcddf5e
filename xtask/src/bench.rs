//! `cargo xtask bench`: one hot slot, booked directly with a row lock and through this pipeline.
//!
//! All run on the same PostgreSQL with the same durability, in one run, by turns, because only
//! figures taken side by side on one machine can be compared. Directly is measured twice: behind the
//! gateway's own front, with the requests of the same crowd, and bare, by pgbench, which sends no
//! requests and checks no tokens.

mod direct;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use testkit::{Postgres, cpu_used};

use crate::command;
use crate::demo::{self, Stages};
use crate::interrupt::unless_interrupted;
use crate::stack::{Options, Stack};
use crate::workspace::private_folder;

/// Whose processor time is told.
const PARTS: [&str; 5] = ["gateway-1", "worker-1", "redis", "rabbitmq", "postgres"];

/// Options of the comparison.
#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// Rounds of each
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
    rounds: u8,
    /// Bookings of a round through the pipeline
    #[arg(long, default_value_t = 40_000, value_parser = clap::value_parser!(u32).range(1_000..=500_000))]
    bookings: u32,
    /// Bookings of a round of direct ones
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1_000..=500_000))]
    direct_bookings: u32,
    /// Seconds of a round of bare direct bookings, by pgbench
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=120))]
    direct_seconds: u32,
    /// Print one JSON object on the last line
    #[arg(long)]
    json: bool,
}

/// What one round through the pipeline gave.
#[derive(Debug, Serialize)]
struct Round {
    /// From the opening until the last patient was told "queued" or "pending", bookings/s.
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
    /// Direct bookings of the same crowd behind the same front, persisted per second, by round.
    direct_per_s: Vec<f64>,
    /// Bare direct bookings persisted per second, by round.
    pgbench_per_s: Vec<f64>,
    /// The pipeline, by round.
    pipeline: Vec<Round>,
    /// Median of persisted / direct, pair by pair.
    ratio: f64,
    /// Median of persisted / bare direct, pair by pair.
    pgbench_ratio: f64,
    /// Resident memory before any load, MB.
    idle_gateway_mb: f64,
    /// The same.
    idle_worker_mb: f64,
}

/// Compares and reports.
pub(crate) async fn run(bench: Bench) -> Result<()> {
    let stages = Stages::start();
    stages.say("building, optimised (minutes the first time)");
    unless_interrupted(command::build_comparison()).await?;
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
    let (mut direct_per_s, mut pgbench_per_s, mut pipeline) = (vec![], vec![], vec![]);
    for round in 1..=bench.rounds {
        stages.say(&format!("round {round}: direct bookings with SELECT … FOR UPDATE"));
        pgbench_per_s.push(direct::bare(bench.direct_seconds, stack, &folder()).await?);
        direct_per_s.push(direct::crowded(bench.direct_bookings, stack, &folder()).await?);
        stages.say(&format!("round {round}: {} bookings of one slot", bench.bookings));
        pipeline.push(through_pipeline(bench, stack, &password).await?);
    }
    let ratio = median_ratio(&pipeline, &direct_per_s);
    let pgbench_ratio = median_ratio(&pipeline, &pgbench_per_s);
    Ok(Comparison {
        direct_per_s,
        pgbench_per_s,
        pipeline,
        ratio,
        pgbench_ratio,
        idle_gateway_mb,
        idle_worker_mb,
    })
}

fn median_ratio(pipeline: &[Round], others: &[f64]) -> f64 {
    let pairs = pipeline.iter().zip(others);
    let mut ratios: Vec<f64> = pairs.map(|(round, other)| round.persisted_per_s / other).collect();
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
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
    let of = |part| stack.pid(part).map_or(Duration::ZERO, cpu_used);
    let mut used = BTreeMap::from(PARTS.map(|part| (part, of(part))));
    let parts = used.values().sum();
    used.insert("crowd", cpu_used(std::process::id()).saturating_sub(parts));
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
    println!("\nOne hot slot, bookings/s");
    println!(
        "pgbench   direct   accepted  persisted     told  persisted/direct  persisted/pgbench"
    );
    let others = comparison.pgbench_per_s.iter().zip(&comparison.direct_per_s);
    for (round, (pgbench, direct)) in comparison.pipeline.iter().zip(others) {
        let Round { accepted_per_s, persisted_per_s, told_per_s, .. } = round;
        let (ratio, bare) = (persisted_per_s / direct, persisted_per_s / pgbench);
        print!("{pgbench:>7.0} {direct:>8.0} {accepted_per_s:>10.0} {persisted_per_s:>10.0}");
        println!(" {told_per_s:>8.0} {ratio:>17.1} {bare:>18.1}");
    }
    for round in &comparison.pipeline {
        let costs = round.cpu_us.iter().map(|(part, us)| format!("{part} {us:.0}"));
        println!("µs of CPU a booking: {}", costs.collect::<Vec<_>>().join(", "));
    }
    let Comparison { ratio, pgbench_ratio, .. } = comparison;
    println!("median ratios: {ratio:.1} of the same front, {pgbench_ratio:.1} of pgbench");
    let Comparison { idle_gateway_mb, idle_worker_mb, .. } = comparison;
    println!("idle memory  gateway {idle_gateway_mb:.0} MB, worker {idle_worker_mb:.0} MB");
}

fn folder() -> PathBuf {
    private_folder().join("bench")
}
