//! How often, and how fast, each outcome was met.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency told apart, µs: ten minutes.
const LATENCY_US_MAX: u64 = 600_000_000;

/// Latencies of one outcome, ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many.
    #[serde(skip)]
    pub count: u64,
    /// Half were faster.
    pub p50: f64,
    /// Nine in ten were faster.
    pub p90: f64,
    /// All but one in a hundred were faster.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

/// Latencies by outcome, from the moment each request was meant to be sent.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<String, Histogram<u64>>>);

impl Tally {
    /// Counts one answer that took `latency`.
    pub fn count(&self, outcome: &str, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_US_MAX);
        let mut by_outcome = self.lock();
        if let Some(histogram) = by_outcome.get_mut(outcome) {
            histogram.saturating_record(us.max(1));
        } else if let Ok(mut histogram) = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3) {
            histogram.saturating_record(us.max(1));
            by_outcome.insert(outcome.to_owned(), histogram);
        }
    }

    /// Returns the percentiles of every outcome met.
    pub fn percentiles(&self) -> BTreeMap<String, Percentiles> {
        self.lock().iter().map(|(outcome, h)| (outcome.clone(), percentiles(h))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Histogram<u64>>> {
        // A count is one call: a panic elsewhere leaves nothing half done here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn percentiles(histogram: &Histogram<u64>) -> Percentiles {
    #[expect(clippy::cast_precision_loss, reason = "at most ten minutes in microseconds")]
    let ms = |us: u64| (us as f64 / 10.0).round() / 100.0;
    Percentiles {
        count: histogram.len(),
        p50: ms(histogram.value_at_quantile(0.50)),
        p90: ms(histogram.value_at_quantile(0.90)),
        p99: ms(histogram.value_at_quantile(0.99)),
        max: ms(histogram.max()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_told_by_outcome() {
        let tally = Tally::default();
        for ms in 1..=100 {
            tally.count("queued", Duration::from_millis(ms));
        }
        tally.count("slot_exhausted", Duration::from_micros(250));
        let all = tally.percentiles();
        assert_eq!(all["queued"].count, 100);
        assert!((all["queued"].p50 - 50.0).abs() < 0.1);
        assert!((all["queued"].p99 - 99.0).abs() < 0.1);
        assert!((all["slot_exhausted"].max - 0.25).abs() < 0.01);
    }
}
