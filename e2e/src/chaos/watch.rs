//! What the system finds of itself, read all through a round: the workers' own audit, and what gateways
//! hold their answers against.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::reach::http_get;

/// How often every program is read: as often as a worker audits.
const READ_EVERY: Duration = Duration::from_secs(1);
/// How long a program may take to answer; one that stands still does not.
const ANSWER_WITHIN: Duration = Duration::from_millis(800);
/// Different findings that are kept.
const FOUND_MAX: usize = 50;

/// One reading of a program's metrics.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// When it audited last, as it says; `None` if it does not lead, has not audited yet, or is a gateway.
    pub(super) audited_at: Option<String>,
    /// The gauges that are not 0.
    pub(super) broken: Vec<String>,
}

impl Reading {
    pub(super) fn of(metrics: &str) -> Self {
        let gauges = metrics.lines().filter(|line| line.starts_with("slotrush_violations{"));
        let known: Vec<&str> = gauges.filter(|line| !line.ends_with(" NaN")).collect();
        let mut times = metrics.lines();
        let at = times.find_map(|line| line.strip_prefix("slotrush_audit_timestamp_seconds "));
        let broken = known.iter().filter(|line| !line.ends_with(" 0"));
        Self {
            audited_at: at.filter(|_| !known.is_empty()).map(str::to_owned),
            broken: broken.map(|line| format!("found by the system itself: {line}")).collect(),
        }
    }
}

/// What was read in a round.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Audits of the workers that were read; one that was read twice counts once.
    pub(super) audits: u64,
    /// Those of them that were read while a fault was on.
    pub(super) under_fault: u64,
    /// What they found. An audit looks at one instant of each store, so nothing may ever be found.
    broken: BTreeSet<String>,
}

impl Seen {
    /// Adds a reading, if it is of another audit than the one before.
    fn add(&mut self, last: &mut Option<String>, reading: Reading, is_struck: bool) {
        let Reading { audited_at, broken } = reading;
        if audited_at.is_some() && audited_at != *last {
            self.audits += 1;
            self.under_fault += u64::from(is_struck);
        }
        *last = audited_at;
        let room = FOUND_MAX.saturating_sub(self.broken.len());
        self.broken.extend(broken.into_iter().take(room));
    }

    /// What is to be told of the round. Not to have seen any audit is a fault of the checker or of
    /// the workers; neither may pass for a clean round.
    pub(super) fn violations(&self) -> Vec<String> {
        let mut found: Vec<String> = self.broken.iter().cloned().collect();
        if self.audits == 0 {
            found.push("no audit of a worker was read all through the round".to_owned());
        }
        found
    }
}

/// Reads the programs until [`Watch::end`].
#[derive(Debug)]
pub(super) struct Watch {
    is_struck: Arc<AtomicBool>,
    stop: CancellationToken,
    reading: JoinHandle<Seen>,
}

impl Watch {
    /// Begins to read the programs that serve their metrics at these ports.
    pub(super) fn start(ports: Vec<u16>) -> Self {
        let (is_struck, stop) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
        let (struck, stopped) = (Arc::clone(&is_struck), stop.clone());
        let reading = tokio::spawn(async move {
            let mut seen = Seen::default();
            let mut last = vec![None; ports.len()];
            let mut clock = interval(READ_EVERY);
            loop {
                tokio::select! {
                    _ = clock.tick() => {}
                    () = stopped.cancelled() => return seen,
                }
                for (port, last) in ports.iter().zip(&mut last) {
                    let is_struck = struck.load(Ordering::Relaxed);
                    // A program that is dead or stands still is read the next time.
                    if let Ok(Ok((200, metrics))) =
                        timeout(ANSWER_WITHIN, http_get(*port, "/metrics")).await
                    {
                        seen.add(last, Reading::of(&metrics), is_struck);
                    }
                }
            }
        });
        Self { is_struck, stop, reading }
    }

    /// Notes whether a fault is on.
    pub(super) fn set_struck(&self, is_struck: bool) {
        self.is_struck.store(is_struck, Ordering::Relaxed);
    }

    /// Ends reading; returns what was read.
    pub(super) async fn end(self) -> Result<Seen> {
        self.stop.cancel();
        self.reading.await.context("reading the programs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(i1: &str, at: u32) -> String {
        format!(
            "slotrush_violations{{invariant=\"I1\"}} {i1}\nslotrush_violations{{invariant=\"I9\"}} 0\n\
             slotrush_audit_timestamp_seconds {at}\n"
        )
    }

    #[test]
    fn a_violation_under_a_fault_is_kept_though_it_is_gone_later() {
        let (mut seen, mut last) = (Seen::default(), None);
        seen.add(&mut last, Reading::of(&metrics("0", 1)), false);
        seen.add(&mut last, Reading::of(&metrics("2", 2)), true);
        seen.add(&mut last, Reading::of(&metrics("0", 3)), false);
        assert_eq!((seen.audits, seen.under_fault), (3, 1));
        let line = "found by the system itself: slotrush_violations{invariant=\"I1\"} 2";
        assert_eq!(seen.violations(), [line]);
    }

    #[test]
    fn a_gateway_has_no_audit_and_what_it_finds_is_kept() {
        let (mut seen, mut last) = (Seen::default(), None);
        let gateway = |i4| {
            let i10 = "slotrush_violations{invariant=\"I10\"} 0";
            format!("slotrush_violations{{invariant=\"I4\"}} {i4}\n{i10}\n")
        };
        seen.add(&mut last, Reading::of(&gateway(0)), false);
        assert_eq!((seen.audits, seen.broken.len()), (0, 0));
        seen.add(&mut last, Reading::of(&gateway(1)), true);
        assert_eq!((seen.audits, seen.broken.len()), (0, 1));
    }

    #[test]
    fn an_audit_read_twice_counts_once_and_none_at_all_is_told() {
        let (mut seen, mut last) = (Seen::default(), None);
        let nothing =
            "slotrush_violations{invariant=\"I1\"} NaN\nslotrush_audit_timestamp_seconds 0";
        seen.add(&mut last, Reading::of(nothing), false);
        assert_eq!((seen.audits, seen.violations().len()), (0, 1));
        seen.add(&mut last, Reading::of(&metrics("0", 7)), false);
        seen.add(&mut last, Reading::of(&metrics("0", 7)), false);
        assert_eq!((seen.audits, seen.violations()), (1, Vec::new()));
    }
}
