//! Ratios that can be believed: medians with intervals, and what they come to.
//!
//! Two arms are measured by turns, and each pair of neighbours gives one ratio: what disturbs the machine
//! for longer than a round disturbs both. The interval comes from a bootstrap: pairs are drawn again with
//! replacement, and their median taken, ten thousand times; the middle 95 % of these medians are the
//! interval. With fewer than five pairs it is hardly narrower than from the smallest to the largest ratio.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;

/// How often the bootstrap draws.
const DRAWS: usize = 10_000;

/// A median and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The median.
    #[serde(rename = "ratio")]
    pub median: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Of how many.
    pub pairs: usize,
}

impl Estimate {
    /// Estimates the median of what these are a sample of. `None` without any, or if one is not a number.
    ///
    /// The same sample and seed give the same estimate.
    pub fn of(sample: &[f64], seed: u64) -> Option<Self> {
        if sample.is_empty() || !sample.iter().all(|value| value.is_finite()) {
            return None;
        }
        let mut random = StdRng::seed_from_u64(seed);
        let mut draw = || {
            let any = || sample[random.random_range(0..sample.len())];
            median(std::iter::repeat_with(any).take(sample.len()).collect())
        };
        let mut medians: Vec<f64> = (0..DRAWS).map(|_| draw()).collect();
        medians.sort_by(f64::total_cmp);
        Some(Self {
            median: median(sample.to_vec()),
            low: medians[DRAWS * 25 / 1_000],
            high: medians[DRAWS * 975 / 1_000 - 1],
            pairs: sample.len(),
        })
    }

    /// Estimates first / second from pairs measured next to each other. `None` as above, or if a second is
    /// zero.
    pub fn of_ratios(pairs: &[(f64, f64)], seed: u64) -> Option<Self> {
        let ratios: Vec<f64> = pairs.iter().map(|(first, second)| first / second).collect();
        Self::of(&ratios, seed)
    }

    /// The A/A control: the ratio of each second round of one arm to the round before it. What it differs
    /// from 1 is noise; a smaller difference between two arms means nothing. `None` as above.
    pub fn of_control(rounds: &[f64], seed: u64) -> Option<Self> {
        let pairs: Vec<_> = rounds.chunks_exact(2).map(|pair| (pair[1], pair[0])).collect();
        Self::of_ratios(&pairs, seed)
    }

    /// How far the interval reaches from 1: of a control, the noise floor.
    pub fn distance_from_one(&self) -> f64 {
        (self.high - 1.0).abs().max((1.0 - self.low).abs())
    }
}

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More is better: rates.
    Higher,
    /// Less is better: costs and latencies.
    Lower,
}

/// What is wanted of a figure. Gate, target and stretch are each at least as hard as the one before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Goal {
    /// Which way is good.
    pub better: Better,
    /// What must hold.
    pub gate: f64,
    /// What is aimed at.
    pub target: Option<f64>,
    /// What would be splendid.
    pub stretch: Option<f64>,
}

/// The hardest of a goal's marks that is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Not even the gate.
    Missed,
    /// The gate.
    Gate,
    /// The target.
    Target,
    /// The stretch.
    Stretch,
}

impl Verdict {
    /// Its word in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::Gate => "gate",
            Self::Target => "target",
            Self::Stretch => "stretch",
        }
    }
}

impl Goal {
    /// A goal for a rate.
    pub const fn at_least(gate: f64, target: f64, stretch: f64) -> Self {
        let (target, stretch) = (Some(target), Some(stretch));
        Self { better: Better::Higher, gate, target, stretch }
    }

    /// A goal for a cost.
    pub const fn at_most(gate: f64, target: f64, stretch: f64) -> Self {
        let (target, stretch) = (Some(target), Some(stretch));
        Self { better: Better::Lower, gate, target, stretch }
    }

    /// Judges one figure.
    pub fn judge(&self, figure: f64) -> Verdict {
        let is_met = |mark: f64| match self.better {
            Better::Higher => figure >= mark,
            Better::Lower => figure <= mark,
        };
        if !is_met(self.gate) {
            Verdict::Missed
        } else if self.stretch.is_some_and(is_met) {
            Verdict::Stretch
        } else if self.target.is_some_and(is_met) {
            Verdict::Target
        } else {
            Verdict::Gate
        }
    }

    /// Judges the median of an estimate.
    pub fn judge_median(&self, estimate: &Estimate) -> Verdict {
        self.judge(estimate.median)
    }

    /// Judges the worse end of an estimate's interval: what noise can't have made.
    pub fn judge_surely(&self, estimate: &Estimate) -> Verdict {
        self.judge(match self.better {
            Better::Higher => estimate.low,
            Better::Lower => estimate.high,
        })
    }
}

/// The middle of a sample that is not empty; of an even number, the mean of both in the middle.
pub(crate) fn median(mut sample: Vec<f64>) -> f64 {
    sample.sort_by(f64::total_cmp);
    let middle = sample.len() / 2;
    if sample.len() % 2 == 1 {
        sample[middle]
    } else {
        f64::midpoint(sample[middle - 1], sample[middle])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_of_ratios_pair_by_pair() {
        // The second pair was measured while the machine was half as fast; both arms suffered.
        let pairs = [(300.0, 100.0), (160.0, 50.0), (280.0, 100.0)];
        let estimate = Estimate::of_ratios(&pairs, 1).expect("estimated");
        assert!((estimate.median - 3.0).abs() < 1e-9);
        assert!((estimate.low - 2.8).abs() < 1e-9 && (estimate.high - 3.2).abs() < 1e-9);
        assert_eq!(Estimate::of(&[1.0, 4.0], 1).map(|estimate| estimate.median), Some(2.5));
    }

    #[test]
    fn the_same_seed_gives_the_same_interval_and_a_steady_sample_none() {
        let sample = [1.0, 1.3, 0.9, 1.1, 1.05, 0.97, 1.2, 1.02];
        assert_eq!(Estimate::of(&sample, 7), Estimate::of(&sample, 7));
        let steady = Estimate::of(&[2.0; 6], 7).expect("estimated");
        assert_eq!((steady.median, steady.low, steady.high), (2.0, 2.0, 2.0));
    }

    #[test]
    fn the_interval_is_that_of_order_statistics() {
        // Of nine, the bootstrap's middle 95 % lies between the 2nd and 8th: the 2nd or less is drawn as
        // median with probability P(Bin(9, 2/9) ≥ 5) = 3.1 %, the 1st with P(Bin(9, 1/9) ≥ 5) = 0.1 %.
        let nine: Vec<f64> = (1..=9).map(f64::from).collect();
        let estimate = Estimate::of(&nine, 3).expect("estimated");
        assert_eq!((estimate.median, estimate.low, estimate.high), (5.0, 2.0, 8.0));
    }

    #[test]
    fn what_is_not_a_number_is_no_estimate() {
        assert_eq!(Estimate::of(&[], 1), None);
        assert_eq!(Estimate::of_ratios(&[(1.0, 0.0)], 1), None);
        assert_eq!(Estimate::of(&[1.0, f64::NAN], 1), None);
    }

    #[test]
    fn the_control_compares_neighbours() {
        let control = Estimate::of_control(&[100.0, 110.0, 200.0, 190.0], 1).expect("estimated");
        assert_eq!(control.pairs, 2);
        assert!((control.median - 1.025).abs() < 1e-9);
        assert!((control.distance_from_one() - 0.1).abs() < 1e-9);
    }

    #[test]
    fn verdicts_go_both_ways() {
        let rate = Goal::at_least(8.0, 15.0, 25.0);
        let judged = [7.9, 8.0, 15.0, 30.0].map(|figure| rate.judge(figure));
        let each = [Verdict::Missed, Verdict::Gate, Verdict::Target, Verdict::Stretch];
        assert_eq!(judged, each);
        let cost = Goal::at_most(4.0, 2.5, 2.0);
        assert_eq!([4.1, 4.0, 2.5, 1.0].map(|figure| cost.judge(figure)), each);
        let only_gate = Goal { target: None, stretch: None, ..cost };
        assert_eq!(only_gate.judge(0.1), Verdict::Gate);
    }

    #[test]
    fn a_sure_verdict_is_of_the_worse_end() {
        let estimate = Estimate { median: 3.0, low: 1.5, high: 5.0, pairs: 6 };
        let (rate, cost) = (Goal::at_least(1.0, 2.0, 4.0), Goal::at_most(6.0, 3.5, 1.0));
        assert_eq!(rate.judge_median(&estimate), Verdict::Target);
        assert_eq!(rate.judge_surely(&estimate), Verdict::Gate);
        assert_eq!(cost.judge_median(&estimate), Verdict::Target);
        assert_eq!(cost.judge_surely(&estimate), Verdict::Gate);
    }
}
