//! The arms: what is measured beside what.
//!
//! An arm is played in rounds, neighbours by turns and every second time the other way round. A round
//! whose books don't balance fails the run.

mod accept;
mod depth;
mod drain;
mod floor;
mod growth;
mod hot;
mod latency;
mod number;
mod queue;
mod size;
mod spread;
mod streams;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

pub use latency::Step;

use anyhow::{Context as _, Result, ensure};
use booking::SlotId;
use serde::Serialize;
use testkit::cpu_used;

use crate::load::{Outcome, Work, closed};
use crate::ratios;
use crate::world::{Bare, Bookings, Offer, Other, Parts, World};

/// Connections of what is answered at once.
const CONNECTIONS: usize = 64;
/// Connections where the five ways to book are compared: many come at once.
const RUSH: usize = 256;
/// How long the last answers may take.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How old tokens may be when a group begins. The longest takes some minutes, and they last fifteen.
const TOKENS_FOR: Duration = Duration::from_mins(3);

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long a round counts.
    pub round: Duration,
    /// How long it is played before.
    pub warm_up: Duration,
    /// Rounds of each arm.
    pub cycles: usize,
    /// Patients.
    pub patients: u32,
}

impl Pace {
    /// Whether this is for a first look.
    const fn is_quick(&self) -> bool {
        self.cycles < Self::FULL.cycles
    }

    /// Rounds of what is answered at once: their ratios lie close to their gates, and a round takes seconds.
    const fn floor_cycles(&self) -> usize {
        if self.is_quick() { self.cycles } else { 2 * self.cycles }
    }

    /// For a first look.
    pub const QUICK: Self = Self {
        round: Duration::from_secs(2),
        warm_up: Duration::from_millis(500),
        cycles: 2,
        patients: 50_000,
    };
    /// For figures that are quoted.
    pub const FULL: Self = Self {
        round: Duration::from_secs(5),
        warm_up: Duration::from_secs(1),
        cycles: 4,
        patients: 120_000,
    };
}

/// One round of an arm.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Round {
    /// What it is about, per second: answers, holds or bookings.
    pub per_s: f64,
    /// Of these, how many.
    pub count: u64,
    /// Processor time of each, by process, µs.
    pub cpu_us: BTreeMap<&'static str, f64>,
}

impl Round {
    /// Processor time of all servers and programs for each, without the load's, µs.
    pub fn cpu_all_us(&self) -> f64 {
        let all = self.cpu_us.iter().filter(|(name, _)| **name != LOAD);
        all.map(|(_, us)| us).sum()
    }
}

/// The name of the load's own processor time.
const LOAD: &str = "load";

/// All rounds, by arm, and single figures.
#[derive(Debug, Default, Serialize)]
pub struct Results {
    /// By arm, in the order they were played.
    pub rounds: BTreeMap<&'static str, Vec<Round>>,
    /// Figures that are no rate, by name.
    pub figures: BTreeMap<&'static str, Vec<f64>>,
    /// Latencies under offered load, for the curves.
    pub curve: Vec<Step>,
}

impl Results {
    fn add(&mut self, arm: &'static str, round: Round) {
        self.rounds.entry(arm).or_default().push(round);
    }

    fn note(&mut self, name: &'static str, figure: f64) {
        self.figures.entry(name).or_default().push(figure);
    }
}

/// Everything that is measured, and how.
pub struct Rig<'a> {
    /// The pipeline.
    pub world: World,
    /// The usual ways.
    pub other: Other,
    /// Redis alone.
    pub bare: Bare,
    /// How much.
    pub pace: Pace,
    /// Tells a person how far it is.
    pub say: &'a (dyn Fn(&str) + Sync),
    /// What came of it so far.
    pub results: Results,
    /// Slots without a place, once they are sold.
    sold_out: Vec<SlotId>,
    /// 100,000 slots, once they are needed, and the number of the next wish for one of them.
    spread: Option<(Offer, usize)>,
}

/// Takes minutes to prepare, so a first look is taken without it.
const GROWTH: &str = "growth";
/// Is played only where it is named.
const DEEP: &str = "deep";

/// Groups of arms, by the ratios they give.
const GROUPS: [(&str, &[&str]); 9] = [
    ("floor", &["S1", "S2", "G1"]),
    // Before the groups that leave a million bookings in the pipeline's tables, while those of the
    // others hold as few as they can write.
    ("hot", &["C1", "C3", "D3"]),
    ("spread", &["C2", "C4", "E1"]),
    ("drain", &["C5"]),
    ("accept", &["A1", "A2", "D1", "D5"]),
    ("latency", &["F1", "F3", "F4", "F5"]),
    ("queue", &["G2"]),
    // Last: what it puts on offer stays on offer.
    (GROWTH, &["H1", "H3", "streams", "depth", "gateways", "partitions"]),
    (DEEP, &[]),
];

impl<'a> Rig<'a> {
    /// Puts it together.
    pub fn new(
        world: World,
        other: Other,
        bare: Bare,
        pace: Pace,
        say: &'a (dyn Fn(&str) + Sync),
    ) -> Self {
        Self {
            world,
            other,
            bare,
            pace,
            say,
            results: Results::default(),
            sold_out: Vec::new(),
            spread: None,
        }
    }

    /// Plays what is needed for the ratios named, or all if none is.
    ///
    /// # Errors
    /// If a round's books don't balance, or something does not answer.
    pub async fn play(&mut self, only: &[String]) -> Result<()> {
        self.greet().await?;
        let mut greeted = Instant::now();
        for (group, ids) in GROUPS {
            let is_of_all = group != DEEP && (group != GROWTH || !self.pace.is_quick());
            let is_wanted = (only.is_empty() && is_of_all)
                || only.iter().any(|id| ids.contains(&id.as_str()) || id == group);
            if !is_wanted {
                continue;
            }
            if greeted.elapsed() > TOKENS_FOR {
                self.world.renew_tokens()?;
                self.greet().await?;
                greeted = Instant::now();
            }
            let played = match group {
                "floor" => self.floor().await,
                "accept" => self.accept().await,
                "hot" => self.hot().await,
                "spread" => self.spread().await,
                "drain" => self.drain().await,
                "queue" => self.queue().await,
                GROWTH => {
                    let is_wanted = |id: &str| {
                        only.is_empty() || only.iter().any(|some| some == id || some == GROWTH)
                    };
                    self.growth(is_wanted).await
                }
                DEEP => self.depth(&depth::Depth::DEEP).await,
                _ => self.latency().await,
            };
            played.with_context(|| group.to_owned())?;
            for ratio in ratios::of(&self.results) {
                if ids.iter().any(|id| ratio.id.starts_with(id)) {
                    (self.say)(&ratio.line());
                }
            }
        }
        Ok(())
    }

    /// Loads a port in closed loop, and tells what each accepted request cost.
    async fn load<W: Work>(
        &self,
        port: u16,
        connections: usize,
        parts: &Parts,
        work: W,
    ) -> Result<(closed::Report, W, Costs)> {
        let plan = closed::Plan {
            address: local(port),
            connections,
            warm_up: self.pace.warm_up,
            duration: self.pace.round,
            drain: DRAIN_MAX,
        };
        let costs = Costs::begin(parts);
        let (report, work) = closed::run(plan, work).await?;
        let costs = costs.end();
        let all = report.all();
        ensure!(all.failed == 0 && all.lost == 0, "{} failed, {} lost", all.failed, all.lost);
        Ok((report, work, costs))
    }

    /// The order of `count` arms in this cycle.
    fn order(cycle: usize, count: usize) -> Vec<usize> {
        if cycle.is_multiple_of(2) { (0..count).collect() } else { (0..count).rev().collect() }
    }

    /// A slot of its own with a place for everybody, or so many.
    async fn hot_slot(&self) -> Result<Offer> {
        self.world.offer(1, 1, self.pace.patients).await
    }

    /// Bookings persisted since booking `after`: how many, and how many per second from the first
    /// one's acceptance to the last one's row.
    async fn persisted_since(&self, after: i64) -> Result<(u64, f64)> {
        let text = self
            .world
            .sql(&format!(
                "SELECT count(*) FILTER (WHERE state = 'booked'),
                        count(*) FILTER (WHERE state <> 'booked'),
                        extract(epoch FROM max(changed_at) - min(accepted_at))
                 FROM booking WHERE id > {after}"
            ))
            .await?;
        let fields: Vec<&str> = text.split('|').collect();
        let [booked, others, seconds] = fields[..] else { anyhow::bail!("three fields: {text}") };
        ensure!(others == "0", "{others} accepted bookings were refused in the end");
        let booked: u64 = booked.parse()?;
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 bookings")]
        let per_s = booked as f64 / seconds.parse::<f64>().unwrap_or(f64::INFINITY);
        Ok((booked, per_s))
    }

    /// The newest booking.
    async fn newest(&self) -> Result<i64> {
        Ok(self.world.sql("SELECT coalesce(max(id), 0) FROM booking").await?.parse()?)
    }

    /// Waits for rest, then counts rows; as many as were accepted, and all of them booked.
    async fn balanced(&self, after: i64, accepted: u64) -> Result<u64> {
        self.world.rest().await?;
        let (count, _) = self.persisted_since(after).await?;
        ensure!(count == accepted, "{count} rows of {accepted} accepted bookings");
        Ok(count)
    }

    /// Lets the crowd book through the pipeline until nothing moves; the books must balance.
    async fn pipeline(&self, connections: usize, bookings: Bookings) -> Result<(Round, usize)> {
        let after = self.newest().await?;
        let parts = self.world.parts();
        let costs = Costs::begin(&parts);
        let (report, bookings, _) =
            self.load(self.world.port, connections, &parts, bookings).await?;
        self.world.settle().await?;
        let costs = costs.end();
        self.world.audit().await?;
        let all = report.all();
        let (count, per_s) = self.persisted_since(after).await?;
        ensure!(count == all.accepted, "{count} rows of {} accepted bookings", all.accepted);
        Ok((costs.round(per_s, count, &report), bookings.next_number()))
    }
}

/// Processor time at the beginning of a round.
struct Begun(Vec<(&'static str, u32, Duration)>);

/// Processor time of a round, by process.
struct Costs(Vec<(&'static str, Duration)>);

impl Costs {
    fn begin(parts: &Parts) -> Begun {
        let used = parts.iter().map(|(name, pid)| (*name, *pid, cpu_used(*pid)));
        Begun(used.collect())
    }

    /// A round of something else than our load.
    fn alone(&self, per_s: f64, count: u64) -> Round {
        Round { per_s, count, cpu_us: self.each(count).collect() }
    }

    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53")]
    fn each(&self, count: u64) -> impl Iterator<Item = (&'static str, f64)> {
        let count = count.max(1) as f64;
        self.0.iter().map(move |(name, used)| (*name, used.as_secs_f64() * 1e6 / count))
    }

    /// A round with these costs, shared by `count`.
    fn round(&self, per_s: f64, count: u64, report: &closed::Report) -> Round {
        let load = (LOAD, report.cpu_us_per_request());
        Round { per_s, count, cpu_us: self.each(count).chain([load]).collect() }
    }
}

impl Begun {
    fn end(&self) -> Costs {
        let spent = self
            .0
            .iter()
            .map(|(name, pid, before)| (*name, cpu_used(*pid).saturating_sub(*before)));
        Costs(spent.collect())
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// What had this outcome in the counted part, per second; costs are of the whole round.
fn round_of(outcome: Outcome, report: &closed::Report, costs: &Costs) -> Round {
    costs.round(report.per_second(outcome), report.all().of(outcome), report)
}
