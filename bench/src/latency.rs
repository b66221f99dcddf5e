//! Latencies by outcome.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::load::Outcome;

/// The longest latency told apart, µs: ten minutes.
const LATENCY_US_MAX: u64 = 600_000_000;

/// Latencies of one kind, ms. All zero if there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many.
    pub count: u64,
    /// Half were as fast.
    pub p50_ms: f64,
    /// Nine in ten were.
    pub p90_ms: f64,
    /// All but one in a hundred were.
    pub p99_ms: f64,
    /// All but one in a thousand were.
    pub p99_9_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

/// A histogram with three significant digits, 1 µs to ten minutes; memory only once something is recorded.
#[derive(Clone, Debug, Default)]
pub struct Latency(Option<Histogram<u64>>);

impl Latency {
    /// Counts one.
    pub fn record(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_US_MAX);
        if self.0.is_none() {
            // These bounds are right, so there is one.
            self.0 = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).ok();
        }
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(us.max(1));
        }
    }

    /// Adds those of another, of the next round say.
    pub fn merge(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (_, None) => {}
            // Both have the same bounds, so everything fits.
            (Some(histogram), Some(other)) => drop(histogram.add(other)),
            (None, Some(other)) => self.0 = Some(other.clone()),
        }
    }

    /// The usual percentiles.
    pub fn percentiles(&self) -> Percentiles {
        let Some(histogram) = &self.0 else { return Percentiles::default() };
        let quantile = |quantile| ms(histogram.value_at_quantile(quantile));
        Percentiles {
            count: histogram.len(),
            p50_ms: quantile(0.50),
            p90_ms: quantile(0.90),
            p99_ms: quantile(0.99),
            p99_9_ms: quantile(0.999),
            max_ms: ms(histogram.max()),
        }
    }

    /// How many took at most `limit`.
    pub fn count_within(&self, limit: Duration) -> u64 {
        let us = u64::try_from(limit.as_micros()).unwrap_or(LATENCY_US_MAX);
        self.0.as_ref().map_or(0, |histogram| histogram.count_between(0, us))
    }
}

/// One histogram per outcome.
#[derive(Clone, Debug, Default)]
pub struct Latencies([Latency; Outcome::ALL.len()]);

impl Latencies {
    /// Counts one.
    pub fn record(&mut self, outcome: Outcome, latency: Duration) {
        self.0[outcome as usize].record(latency);
    }

    /// Adds those of another.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            mine.merge(theirs);
        }
    }

    /// Those of one outcome.
    pub const fn of(&self, outcome: Outcome) -> &Latency {
        &self.0[outcome as usize]
    }

    /// Those of all outcomes together.
    pub fn all(&self) -> Latency {
        let mut all = Latency::default();
        self.0.iter().for_each(|latency| all.merge(latency));
        all
    }

    /// The percentiles of every outcome met.
    pub fn percentiles(&self) -> BTreeMap<Outcome, Percentiles> {
        let all = Outcome::ALL.map(|outcome| (outcome, self.of(outcome).percentiles()));
        all.into_iter().filter(|(_, percentiles)| percentiles.count > 0).collect()
    }
}

impl Serialize for Latency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.percentiles().serialize(serializer)
    }
}

impl Serialize for Latencies {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.percentiles().serialize(serializer)
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most ten minutes in microseconds")]
fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_near(value: f64, expected: f64) -> bool {
        (value - expected).abs() <= expected / 500.0
    }

    #[test]
    fn percentiles_are_told_by_outcome() {
        let mut latencies = Latencies::default();
        for ms in 1..=1_000 {
            latencies.record(Outcome::Accepted, Duration::from_millis(ms));
        }
        latencies.record(Outcome::Shed, Duration::from_micros(250));
        let all = latencies.percentiles();
        assert_eq!(all.keys().copied().collect::<Vec<_>>(), [Outcome::Accepted, Outcome::Shed]);
        let accepted = all[&Outcome::Accepted];
        assert_eq!(accepted.count, 1_000);
        let told = [accepted.p50_ms, accepted.p90_ms, accepted.p99_ms, accepted.p99_9_ms];
        let expected = [500.0, 900.0, 990.0, 999.0];
        assert!(told.iter().zip(expected).all(|(value, expected)| is_near(*value, expected)));
        assert!(is_near(accepted.max_ms, 1_000.0));
        assert!(is_near(all[&Outcome::Shed].max_ms, 0.25));
    }

    #[test]
    fn rounds_add_up() {
        let (mut one, mut other) = (Latencies::default(), Latencies::default());
        one.record(Outcome::Accepted, Duration::from_millis(1));
        other.record(Outcome::Accepted, Duration::from_millis(3));
        other.record(Outcome::Refused, Duration::from_millis(5));
        one.merge(&other);
        assert_eq!(one.of(Outcome::Accepted).percentiles().count, 2);
        assert_eq!(one.all().percentiles().count, 3);
        assert_eq!(one.all().count_within(Duration::from_millis(4)), 2);
        assert_eq!(Latency::default().percentiles(), Percentiles::default());
    }
}
