//! Chaos: both programs under load while everything around them breaks, judged round by round.
//!
//! Owns: the system under attack with a proxy on every edge, the faults and how they are drawn from
//! a seed, the crowd that keeps coming, the measuring of recoveries, and the verdict.
//!
//! Must never know: how the programs work inside. It breaks what an operator could see breaking,
//! and judges by the answers and by what the three servers hold at rest.
//!
//! Invariants: a round ends at rest and judged before the next begins, so a violation is near its
//! cause and memory stays bounded; the same seed draws the same faults; nothing outlives the run.
//!
//! Read first: `round.rs`, then `fault.rs`, then `strike.rs`.

mod cluster;
mod crowd;
mod echo;
mod exceptions;
mod fate;
mod fault;
mod records;
mod recovery;
mod redis_pair;
mod report;
mod round;
mod strike;
mod verdict;
mod visitor;
mod watch;

pub use fault::Kind;
pub use recovery::Percentiles;
pub use report::Report;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum as _};
use rush::audit::Probe;
use tokio::time::Instant;

use cluster::Cluster;
use fault::Drawer;
use round::{Outcome, Round};

/// Both programs and private servers under load, with faults drawn from a seed, judged round by round.
#[derive(Debug, Parser)]
#[command(name = "chaos", version, max_term_width = 100)]
pub struct Args {
    /// How long rounds are begun, minutes; the last one is played to its end
    #[arg(long, default_value_t = 5.0, value_parser = minutes)]
    pub minutes: f64,
    /// Draws the same faults again [default: a random one, which is printed]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Only these kinds of faults, separated by commas [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub faults: Vec<Kind>,
    /// Begin with the round of this number, as the seed draws it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub first_round: u64,
    /// Every fault lasts this long, seconds [default: as the seed draws it]
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub lasts: Option<u64>,
    /// End after this many rounds, also if minutes are left
    #[arg(long)]
    pub rounds: Option<u64>,
    /// Print the report as one JSON object on the last line
    #[arg(long)]
    pub json: bool,
    /// Keep logs and data also if nothing is violated
    #[arg(long)]
    pub keep_logs: bool,
    /// An empty folder for logs and data [default: a temporary one]
    #[arg(long)]
    pub folder: Option<PathBuf>,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|_| "a number of minutes".to_owned())?;
    if (0.0..=10_000.0).contains(&minutes) { Ok(minutes) } else { Err("0 to 10000".to_owned()) }
}

/// Plays rounds until time is up or one of them finds a violation.
///
/// # Errors
/// If the servers or programs can't be started, broken or looked at. A violation is no error.
pub async fn run(args: &Args) -> Result<Report> {
    let began = Instant::now();
    let say = |text: &str| eprintln!("[{:>6.1} s] {text}", began.elapsed().as_secs_f64());
    let seed = args.seed.unwrap_or_else(rand::random);
    let folder = match &args.folder {
        Some(folder) => std::path::absolute(folder)?,
        None => tempfile::Builder::new().prefix("slotrush-chaos-").tempdir()?.keep(),
    };
    say(&format!("seed {seed}; starting servers and programs in {}", folder.display()));
    let mut cluster = Cluster::start(&folder).await?;
    let probe = Probe::new(&cluster.target)?;
    let kinds = if args.faults.is_empty() { Kind::value_variants() } else { &args.faults };
    let mut drawer = Drawer::new(seed, kinds.to_vec(), args.lasts.map(Duration::from_secs));
    let mut sum = Sum::default();
    let lasts = Duration::from_secs_f64(args.minutes * 60.0);
    let started = Instant::now();
    for number in 1.. {
        let strikes = drawer.round();
        if number < args.first_round {
            continue;
        }
        let is_enough = args.rounds.is_some_and(|rounds| sum.report.rounds >= rounds);
        if is_enough || started.elapsed() >= lasts && sum.report.rounds > 0 {
            break;
        }
        let say = |text: &str| say(&format!("round {number}: {text}"));
        let round = Round {
            cluster: &mut cluster,
            probe: &probe,
            number,
            seed: seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            folder: &folder,
            say: &say,
        };
        let outcome = Box::pin(round.play(&strikes)).await;
        let outcome = outcome.with_context(|| {
            format!("round {number} of seed {seed}; logs are in {}", folder.display())
        })?;
        say(&format!(
            "{} attempts, {} booked, {} violations",
            outcome.verdict.attempts,
            outcome.verdict.booked,
            outcome.verdict.violations.len()
        ));
        if !sum.add(number, outcome) {
            break;
        }
    }
    drop(cluster);
    let mut report = sum.report(seed, args.minutes);
    if args.keep_logs || !report.violations.is_empty() {
        report.logs = Some(folder.display().to_string());
    } else {
        testkit::Postgres::delete_elsewhere(&folder.join("postgres"));
        std::fs::remove_dir_all(&folder).context("deleting the data")?;
    }
    Ok(report)
}

/// What all rounds so far came to.
#[derive(Debug, Default)]
struct Sum {
    report: Report,
    recoveries: BTreeMap<&'static str, Vec<u64>>,
}

impl Sum {
    /// Adds a round; false if it found a violation.
    fn add(&mut self, number: u64, outcome: Outcome) -> bool {
        let Outcome { verdict, recoveries, slow, faults, audits, lost_by_failover, .. } = outcome;
        let report = &mut self.report;
        report.rounds += 1;
        report.attempts += verdict.attempts;
        report.booked += verdict.booked;
        report.lost += verdict.lost;
        report.duplicated += verdict.duplicated;
        report.unexpected += verdict.unexpected;
        report.recovered += verdict.recovered;
        report.oversold += verdict.oversold;
        report.leaked += verdict.leaked;
        report.hasty_refusals += verdict.hasty_refusals;
        report.forgotten += verdict.forgotten;
        report.lost_by_failover.merge(lost_by_failover);
        report.own_audits.read += audits.audits;
        report.own_audits.under_fault += audits.under_fault;
        report.slow_recovery.extend(slow);
        for kind in faults {
            *report.faults.entry(kind.to_string()).or_default() += 1;
        }
        for (name, ms) in recoveries {
            self.recoveries.entry(name).or_default().push(ms);
        }
        let is_clean = verdict.violations.is_empty();
        let named = verdict.violations.iter().map(|found| format!("round {number}: {found}"));
        report.violations.extend(named);
        is_clean
    }

    fn report(self, seed: u64, minutes: f64) -> Report {
        let recoveries = self.recoveries.iter();
        let recovery_ms =
            recoveries.map(|(name, all)| ((*name).to_owned(), Percentiles::of(all))).collect();
        Report { seed, minutes, recovery_ms, ..self.report }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }
}
