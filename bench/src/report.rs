//! What a run came to, for a person and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use serde::Serialize;

use crate::arms::{Results, Round, Step};
use crate::curves::Point;
use crate::ratios::{self, Ratio};
use crate::stats::Estimate;

/// The five ways of guarding a slot, and the arms that play them.
const WAYS: [(&str, &str); 5] = [
    ("one lock of the process", "memory"),
    ("a lock for each session", "locked"),
    ("a transaction that locks the row", "B2"),
    ("one tuned statement", "B3"),
    ("this pipeline", "pipeline"),
];

/// Where it ran.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// Processors there are.
    pub cores: usize,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// Version of Linux.
    pub kernel: String,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let field = |path: &str, name: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim());
            value.unwrap_or("unknown").to_owned()
        };
        let kib = field("/proc/meminfo", "MemTotal");
        let kib: u64 = kib.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            processor: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: kib / 1_024,
            kernel: kernel.trim().to_owned(),
        }
    }
}

/// Everything.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The table.
    pub ratios: Vec<Ratio>,
    /// Empty answers to empty answers: the noise.
    pub control: Option<Estimate>,
    /// All rounds, single figures and latencies.
    pub arms: Results,
    /// Processor time of each booking or answer by arm and process, medians, µs.
    pub cpu_us: BTreeMap<&'static str, BTreeMap<&'static str, f64>>,
    /// Where.
    pub machine: Machine,
    /// Of what.
    pub commit: String,
}

impl Report {
    /// Sums up.
    pub fn new(arms: Results, commit: String) -> Self {
        let cpu_us = arms.rounds.iter().map(|(arm, rounds)| (*arm, cpu_us(rounds)));
        Self {
            ratios: ratios::of(&arms),
            control: ratios::control(&arms),
            cpu_us: cpu_us.filter(|(_, costs)| !costs.is_empty()).collect(),
            machine: Machine::this(),
            commit,
            arms,
        }
    }

    /// The latencies by offered load: medians of the rounds.
    pub fn curve(&self) -> Vec<Point> {
        let mut by_share: BTreeMap<u64, Vec<&Step>> = BTreeMap::new();
        for step in &self.arms.curve {
            // In thousandths: whole numbers can be told apart.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 10")]
            by_share.entry((step.share * 1_000.0).round() as u64).or_default().push(step);
        }
        let median = |steps: &[&Step], figure: fn(&Step) -> f64| {
            middle(steps.iter().map(|step| figure(step)).collect())
        };
        let point = |steps: Vec<&Step>| Point {
            offered_per_s: median(&steps, |step| step.offered_per_s),
            p50_ms: median(&steps, |step| step.accepted.p50_ms),
            p99_ms: median(&steps, |step| step.accepted.p99_ms),
            p99_9_ms: median(&steps, |step| step.accepted.p99_9_ms),
            shed_share: median(&steps, Step::shed_share),
        };
        by_share.into_values().map(point).collect()
    }

    /// Where, of what.
    pub fn subtitle(&self) -> String {
        let Machine { processor, cores, .. } = &self.machine;
        format!("{cores} cores of {processor}, shared by everything and the load; {}", self.commit)
    }

    /// Writes it for a person.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Machine { processor, cores, memory_mib, kernel } = &self.machine;
        writeln!(
            out,
            "{processor}, {cores} cores, {memory_mib} MiB, Linux {kernel}; {}",
            self.commit
        )?;
        if let Some(Estimate { median, low, high, pairs }) = self.control {
            writeln!(out, "A/A control: {median:.3} [{low:.3}, {high:.3}] of {pairs} pairs")?;
        }
        writeln!(
            out,
            "\n{:<10} {:>9} {:>21} {:>8} {:>8} {:>8}  verdict",
            "ratio", "median", "95 %", "gate", "target", "stretch"
        )?;
        for ratio in &self.ratios {
            let Estimate { median, low, high, .. } = ratio.estimate;
            let interval = format!("[{low:.3}, {high:.3}]");
            let mark = |mark: Option<f64>| mark.map_or(String::new(), |mark| format!("{mark:.3}"));
            let (gate, target, stretch) =
                (mark(Some(ratio.gate)), mark(ratio.target), mark(ratio.stretch));
            writeln!(
                out,
                "{:<10} {median:>9.3} {interval:>21} {gate:>8} {target:>8} {stretch:>8}  {:<7} {}",
                ratio.id,
                ratio.verdict.name(),
                ratio.what
            )?;
        }
        writeln!(
            out,
            "\n{:<16} {:>10} {:>8}  µs of processor time each",
            "arm", "per second", "rounds"
        )?;
        for (arm, rounds) in &self.arms.rounds {
            let costs = self.cpu_us.get(arm).map_or_else(String::new, told);
            writeln!(out, "{arm:<16} {:>10.0} {:>8}  {costs}", rate(rounds), rounds.len())?;
        }
        self.write_ways(out)?;
        self.write_curve(out)
    }

    fn write_ways(&self, out: &mut String) -> std::fmt::Result {
        if !self.arms.rounds.contains_key("memory") {
            return Ok(());
        }
        writeln!(out, "\nOne slot, persisted/s, five ways to guard it")?;
        for (way, arm) in WAYS {
            let rounds = self.arms.rounds.get(arm).map_or(0.0, |rounds| rate(rounds));
            writeln!(out, "{way:<34} {rounds:>8.0}")?;
        }
        Ok(())
    }

    fn write_curve(&self, out: &mut String) -> std::fmt::Result {
        if self.arms.curve.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "\n{:>10} {:>9} {:>9} {:>9} {:>9}  accepted, from intended start, ms; µs of processor time each",
            "offered/s", "p50", "p99", "p99.9", "shed"
        )?;
        for step in &self.arms.curve {
            let accepted = &step.accepted;
            writeln!(
                out,
                "{:>10.0} {:>9.1} {:>9.1} {:>9.1} {:>9}  {}",
                step.offered_per_s,
                accepted.p50_ms,
                accepted.p99_ms,
                accepted.p99_9_ms,
                step.counts.shed,
                told(&step.cpu_us)
            )?;
        }
        Ok(())
    }
}

/// Processor time by process, in a line.
fn told(cpu_us: &BTreeMap<&'static str, f64>) -> String {
    let costs: Vec<String> = cpu_us.iter().map(|(name, us)| format!("{name} {us:.1}")).collect();
    costs.join(", ")
}

fn rate(rounds: &[Round]) -> f64 {
    middle(rounds.iter().map(|round| round.per_s).collect())
}

/// The middle one, or the higher of both; 0 if there are none.
fn middle(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(0.0)
}

fn cpu_us(rounds: &[Round]) -> BTreeMap<&'static str, f64> {
    let mut by_part: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for (name, us) in rounds.iter().flat_map(|round| &round.cpu_us) {
        by_part.entry(name).or_default().push(*us);
    }
    by_part.into_iter().map(|(name, all)| (name, middle(all))).collect()
}
