//! What a patient and an operator see beside an attack.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::System;
use rush::answer::Answer;

/// How often a patient comes.
const EVERY: Duration = Duration::from_millis(300);

/// What was seen.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) bookings: usize,
    pub(super) slowest: Duration,
    pub(super) before_mib: u64,
    pub(super) peak_mib: u64,
    pub(super) after_mib: u64,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bookings, slowest, before_mib, peak_mib, after_mib } = self;
        write!(f, "{bookings} bookings beside it, the slowest in {slowest:.0?}; ")?;
        write!(f, "resident memory {before_mib} MiB before, {peak_mib} at most, {after_mib} after")
    }
}

/// Goes on with an attack to its end, while patients book one after the other.
pub(super) async fn beside<A: Future>(system: &System, attack: A) -> Result<(A::Output, Seen)> {
    /// Nobody books twice.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let before_mib = memory_mib(system).await?;
    let mut seen =
        Seen { bookings: 0, slowest: Duration::ZERO, before_mib, peak_mib: 0, after_mib: 0 };
    let mut attack = std::pin::pin!(attack);
    let slot = system.plan.offers[0].slot;
    let outcome = loop {
        let patient = async {
            let person = system.person(NEXT.fetch_add(1, Ordering::Relaxed), 0)?;
            let started = Instant::now();
            let answer = person.book(slot, "beside").await;
            ensure!(matches!(answer, Answer::Booking { .. }), "{answer:?}");
            let took = started.elapsed();
            let memory = memory_mib(system).await?;
            tokio::time::sleep(EVERY).await;
            Ok((took, memory))
        };
        let mut patient = std::pin::pin!(patient);
        let (outcome, (took, memory)) = tokio::select! {
            came = patient.as_mut() => (None, came?),
            // Whoever is asking is waited for.
            outcome = attack.as_mut() => (Some(outcome), patient.await?),
        };
        seen.bookings += 1;
        seen.slowest = seen.slowest.max(took);
        seen.peak_mib = seen.peak_mib.max(memory);
        if let Some(outcome) = outcome {
            break outcome;
        }
    };
    seen.after_mib = memory_mib(system).await?;
    Ok((outcome, seen))
}

async fn memory_mib(system: &System) -> Result<u64> {
    let metrics = system.gateways[0].metrics().await?;
    let value =
        metrics.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    let bytes: f64 = value.context("the memory's metric")?.trim().parse()?;
    Ok(format!("{:.0}", bytes / 1_048_576.0).parse()?)
}
