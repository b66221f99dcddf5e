//! The ratios that are wanted, each from figures of one run taken side by side.

use serde::Serialize;

use crate::arms::{Results, Round};
use crate::stats::{Estimate, Goal, Verdict};

/// Of the bootstrap: the same rounds give the same interval.
const SEED: u64 = 1;

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    /// Its name.
    pub id: &'static str,
    /// What is divided by what.
    pub what: &'static str,
    /// Median and 95 % interval.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// What must hold.
    pub gate: f64,
    /// What is aimed at.
    pub target: Option<f64>,
    /// What would be splendid.
    pub stretch: Option<f64>,
    /// What the median comes to.
    pub verdict: Verdict,
}

impl Ratio {
    /// Says it in short, as soon as it is known.
    pub fn line(&self) -> String {
        let Estimate { median, low, high, .. } = self.estimate;
        let (id, gate, verdict) = (self.id, self.gate, self.verdict.name());
        format!("{id}: {median:.3} [{low:.3}, {high:.3}], gate {gate:.3}: {verdict}")
    }
}

/// How a ratio is made.
struct Recipe {
    id: &'static str,
    what: &'static str,
    sample: fn(&Results) -> Vec<f64>,
    goal: Goal,
}

const fn recipe(
    id: &'static str,
    what: &'static str,
    goal: Goal,
    sample: fn(&Results) -> Vec<f64>,
) -> Recipe {
    Recipe { id, what, sample, goal }
}

const RECIPES: [Recipe; 24] = [
    recipe(
        "A1-64",
        "accepted/s, worker paused, to holds/s of Redis alone, 64 connections",
        Goal::at_least(0.30, 0.50, 0.70),
        |r| r.rates("A1-64", "B1-64"),
    ),
    recipe("A1-256", "the same, 256 connections", Goal::at_least(0.30, 0.50, 0.70), |r| {
        r.rates("A1-256", "B1-256")
    }),
    recipe(
        "A2-64",
        "accepted/s, worker running, to holds/s of Redis alone, 64 connections",
        Goal::at_least(0.20, 0.30, 0.40),
        |r| r.rates("A2-64", "B1-64"),
    ),
    recipe("A2-256", "the same, 256 connections", Goal::at_least(0.20, 0.30, 0.40), |r| {
        r.rates("A2-256", "B1-256")
    }),
    recipe("S1", "\"sold out\"/s to empty answers/s", Goal::at_least(0.85, 0.92, 0.97), |r| {
        r.rates("S1", "B0")
    }),
    recipe("S2", "Redis commands for each \"sold out\"", Goal::at_most(0.01, 0.001, 0.0), |r| {
        r.figures("S2")
    }),
    recipe(
        "C1",
        "persisted/s to the locking transaction's, one slot",
        Goal::at_least(8.0, 15.0, 25.0),
        |r| r.rates("pipeline", "B2"),
    ),
    recipe("C2", "the same, 100,000 slots", Goal::at_least(2.0, 4.0, 6.0), |r| {
        r.rates("pipeline-spread", "B2-spread")
    }),
    recipe(
        "C3",
        "persisted/s to the tuned statement's, one slot",
        Goal::at_least(4.0, 8.0, 12.0),
        |r| r.rates("pipeline", "B3"),
    ),
    recipe("C4", "the same, 100,000 slots", Goal::at_least(1.2, 1.8, 2.2), |r| {
        r.rates("pipeline-spread", "B3-spread")
    }),
    recipe(
        "C5-spread",
        "bookings drained/s to the usual worker's, 100,000 slots",
        Goal::at_least(5.0, 8.0, 12.0),
        |r| r.rates("drain-spread", "B4-spread"),
    ),
    recipe("C5-hot", "the same, one slot", Goal::at_least(20.0, 40.0, 80.0), |r| {
        r.rates("drain", "B4")
    }),
    recipe(
        "D1",
        "processor time of the gateway for an accepted booking to that of an empty answer",
        Goal::at_most(4.0, 2.5, 2.0),
        |r| r.pairs("A1-64", "B0-accept", gateway_us, server_us),
    ),
    recipe(
        "D5",
        "messages for each booking, 256 connections",
        Goal::at_most(1.0 / 8.0, 1.0 / 32.0, 1.0 / 64.0),
        |r| r.figures("messages_per_booking"),
    ),
    recipe(
        "D3",
        "processor time of all for a persisted booking to the locking transaction's",
        Goal::at_most(0.30, 0.15, 0.10),
        |r| r.pairs("pipeline", "B2", Round::cpu_all_us, Round::cpu_all_us),
    ),
    recipe(
        "E1",
        "Redis bytes of an open slot to those of one key each",
        Goal::at_most(1.0 / 5.0, 1.0 / 10.0, 1.0 / 40.0),
        |r| r.divided("slot_bytes", "key_bytes"),
    ),
    recipe(
        "F1",
        "p99 of an accept at half load, less those of a confirm and an empty answer, ms",
        Goal::at_most(5.0, 2.0, 1.0),
        |r| r.less("half_p99_ms", ["confirm_p99_ms", "empty_p99_ms"]),
    ),
    recipe(
        "F3",
        "p99.9 of an accept at 120 % load to that at half load",
        Goal::at_most(5.0, 3.0, 2.0),
        |r| r.divided("over_p99_9_ms", "half_p99_9_ms"),
    ),
    recipe(
        "F4",
        "p99 from \"queued\" until \"booked\" is read, half load, ms",
        Goal::at_most(500.0, 100.0, 50.0),
        |r| r.figures("certain_p99_ms"),
    ),
    recipe(
        "F5",
        "10,000 connections within 100 ms: share answered within 2 s",
        Goal::at_least(0.99, 1.0, 1.0),
        |r| r.figures("storm_answered"),
    ),
    recipe("G1", "polls/s to empty answers/s", Goal::at_least(0.70, 0.85, 0.95), |r| {
        r.rates("G1", "B0")
    }),
    recipe(
        "G2",
        "polls for each booking in a queue, as directed, to those of asking each second",
        Goal::at_most(1.0 / 5.0, 1.0 / 15.0, 1.0 / 30.0),
        |r| r.divided("polls_directed", "polls_each_second"),
    ),
    recipe(
        "H1",
        "accepted/s with 1,000,000 open slots to those with 1,000",
        Goal::at_least(0.85, 0.92, 0.97),
        |r| r.rates("open-1m", "open-1k"),
    ),
    recipe(
        "H3",
        "persisted/s with 20,000,000 more rows of slots to those with 100,000",
        Goal::at_least(0.70, 0.85, 0.95),
        |r| r.rates("rows-20m", "rows-100k"),
    ),
];

/// All ratios that the results give.
pub fn of(results: &Results) -> Vec<Ratio> {
    let made = RECIPES.iter().filter_map(|recipe| {
        let estimate = Estimate::of(&(recipe.sample)(results), SEED)?;
        let Goal { gate, target, stretch, .. } = recipe.goal;
        Some(Ratio {
            id: recipe.id,
            what: recipe.what,
            verdict: recipe.goal.judge_median(&estimate),
            estimate,
            gate,
            target,
            stretch,
        })
    });
    made.collect()
}

/// The A/A control: empty answers, each round to the one before.
pub fn control(results: &Results) -> Option<Estimate> {
    let longest =
        ["B0-accept", "B0"].map(|arm| results.of(arm)).into_iter().max_by_key(|of| of.len())?;
    let rounds: Vec<f64> = longest.iter().map(|round| round.per_s).collect();
    Estimate::of_control(&rounds, SEED)
}

fn gateway_us(round: &Round) -> f64 {
    round.cpu_us.get("gateway").copied().unwrap_or(f64::NAN)
}

fn server_us(round: &Round) -> f64 {
    round.cpu_us.get("direct").copied().unwrap_or(f64::NAN)
}

impl Results {
    fn of(&self, arm: &str) -> &[Round] {
        self.rounds.get(arm).map_or(&[], Vec::as_slice)
    }

    fn figures(&self, name: &str) -> Vec<f64> {
        self.figures.get(name).cloned().unwrap_or_default()
    }

    fn pairs(
        &self,
        first: &str,
        second: &str,
        of_first: fn(&Round) -> f64,
        of_second: fn(&Round) -> f64,
    ) -> Vec<f64> {
        let pairs = self.of(first).iter().zip(self.of(second));
        pairs.map(|(first, second)| of_first(first) / of_second(second)).collect()
    }

    fn rates(&self, first: &str, second: &str) -> Vec<f64> {
        self.pairs(first, second, |round| round.per_s, |round| round.per_s)
    }

    fn divided(&self, first: &str, second: &str) -> Vec<f64> {
        let pairs = self.figures(first).into_iter().zip(self.figures(second));
        pairs.map(|(first, second)| first / second).collect()
    }

    fn less(&self, whole: &str, parts: [&str; 2]) -> Vec<f64> {
        let [one, other] = parts.map(|name| self.figures(name));
        let all = self.figures(whole).into_iter().zip(one.into_iter().zip(other));
        all.map(|(whole, (one, other))| whole - one - other).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn results(arms: &[(&'static str, &[f64])]) -> Results {
        let round = |per_s: &f64| Round { per_s: *per_s, ..Round::default() };
        let rounds = arms.iter().map(|(arm, rates)| (*arm, rates.iter().map(round).collect()));
        Results { rounds: rounds.collect(), ..Results::default() }
    }

    #[test]
    fn rounds_are_divided_pair_by_pair() {
        let results = results(&[("pipeline", &[8_000.0, 4_000.0]), ("B2", &[1_000.0, 500.0])]);
        let ratios = of(&results);
        let ids: Vec<_> = ratios.iter().map(|ratio| ratio.id).collect();
        assert_eq!(ids, ["C1"]);
        assert!((ratios[0].estimate.median - 8.0).abs() < 1e-9);
        assert_eq!(ratios[0].verdict, Verdict::Gate);
    }

    #[test]
    fn what_was_not_played_gives_no_ratio() {
        assert!(of(&Results::default()).is_empty());
        assert_eq!(control(&Results::default()), None);
    }

    #[test]
    fn parts_of_a_latency_are_taken_off() {
        let figures = [("half_p99_ms", 9.0), ("confirm_p99_ms", 4.0), ("empty_p99_ms", 1.0)];
        let figures: BTreeMap<_, _> = figures.map(|(name, ms)| (name, vec![ms])).into();
        let ratios = of(&Results { figures, ..Results::default() });
        assert!((ratios[0].estimate.median - 4.0).abs() < 1e-9);
    }
}
