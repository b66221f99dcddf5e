//! Many walks, on all processors.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::Guards;
use crate::explore::Violation;
use crate::protocol::Protocol;
use crate::walk::walk;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// Seeds a thread takes at once.
const BLOCK: u64 = 256;

/// What came of many walks.
#[derive(Debug)]
pub struct Walks {
    /// Walks taken.
    pub seeds: u64,
    /// Steps in all of them.
    pub steps: u64,
    /// How long they took.
    pub took: Duration,
    /// The lowest seed found that breaks something.
    pub violation: Option<Broken>,
}

/// A walk that breaks something.
#[derive(Debug)]
pub struct Broken {
    /// Its seed.
    pub seed: u64,
    /// Its world.
    pub protocol: Protocol,
    /// What it breaks.
    pub violation: Violation,
}

/// Walks from `seeds` seeds, `first` being the first; stops at a violation. `tell` hears of progress.
pub fn walk_all(
    first: u64,
    seeds: u64,
    guards: Guards,
    threads: usize,
    tell: impl Fn(u64) + Sync,
) -> Walks {
    let start = Instant::now();
    let (next, steps, walked) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let is_over = AtomicBool::new(false);
    let found: Mutex<Option<Broken>> = Mutex::new(None);
    let work = || {
        while !is_over.load(Ordering::Relaxed) {
            let begin = next.fetch_add(BLOCK, Ordering::Relaxed);
            if begin >= seeds {
                break;
            }
            for seed in begin..(begin + BLOCK).min(seeds) {
                let seed = first.wrapping_add(seed);
                let taken = walk(seed, guards);
                steps.fetch_add(u64::try_from(taken.steps).unwrap_or(0), Ordering::Relaxed);
                walked.fetch_add(1, Ordering::Relaxed);
                let Some((protocol, violation)) = taken.violation else { continue };
                is_over.store(true, Ordering::Relaxed);
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                if found.as_ref().is_none_or(|other| seed < other.seed) {
                    *found = Some(Broken { seed, protocol, violation });
                }
                break;
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let mut told = Instant::now();
        while workers.iter().any(|worker| !worker.is_finished()) {
            std::thread::park_timeout(Duration::from_millis(5));
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                tell(walked.load(Ordering::Relaxed));
            }
        }
    });
    Walks {
        seeds: walked.into_inner(),
        steps: steps.into_inner(),
        took: start.elapsed(),
        violation: found.into_inner().unwrap_or_else(PoisonError::into_inner),
    }
}
