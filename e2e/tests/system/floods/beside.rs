//! What a patient and an operator see beside an attack.

use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::System;
use rush::answer::Answer;
use testkit::ProcessId;

/// How often a patient comes.
const EVERY: Duration = Duration::from_millis(300);

/// What was seen.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) bookings: usize,
    pub(super) slowest: Duration,
    /// Resident memory of the gateway; the peak is the kernel's own (`VmHWM`), so no moment is missed.
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
    let gateway = system.gateways[0].id();
    forget_memory_peak(gateway)?;
    let before_mib = memory_mib(gateway, "VmRSS")?;
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
            tokio::time::sleep(EVERY).await;
            Ok(took)
        };
        let mut patient = std::pin::pin!(patient);
        let (outcome, took) = tokio::select! {
            came = patient.as_mut() => (None, came?),
            // Whoever is asking is waited for.
            outcome = attack.as_mut() => (Some(outcome), patient.await?),
        };
        seen.bookings += 1;
        seen.slowest = seen.slowest.max(took);
        if let Some(outcome) = outcome {
            break outcome;
        }
    };
    seen.peak_mib = memory_mib(gateway, "VmHWM")?;
    seen.after_mib = memory_mib(gateway, "VmRSS")?;
    Ok((outcome, seen))
}

/// Lets the kernel count the peak of a process's memory anew.
fn forget_memory_peak(process: ProcessId) -> Result<()> {
    let file = format!("/proc/{}/clear_refs", process.pid);
    fs::write(&file, "5").with_context(|| format!("writing {file}"))
}

/// Reads a line of what the kernel says of a process (MiB).
fn memory_mib(process: ProcessId, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("a size in kB")?;
    Ok(kib.parse::<u64>()?.div_ceil(1_024))
}
