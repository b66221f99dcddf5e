//! Liveness and readiness.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::Interruption;

/// The name under which a stopping program fails its readiness.
pub const STOPPING: &str = "stopping";

/// How often it is measured how long a check has not held.
const MEASURE_EVERY: Duration = Duration::from_millis(250);

type Check = (&'static str, Arc<dyn Fn() -> bool + Send + Sync>);

/// What a program says of itself on `/livez` and `/readyz`. Cheap to clone.
#[derive(Clone, Default)]
pub struct Health {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    checks: RwLock<Vec<Check>>,
    is_stopping: AtomicBool,
}

impl Health {
    /// Adds a named readiness check; all must hold. A check must answer at once, from memory.
    pub fn check(&self, name: &'static str, is_ready: Arc<dyn Fn() -> bool + Send + Sync>) {
        let mut checks = self.inner.checks.write().unwrap_or_else(PoisonError::into_inner);
        checks.push((name, is_ready));
    }

    /// Makes `/readyz` say no from now on: the program is stopping.
    pub fn stop(&self) {
        self.inner.is_stopping.store(true, Ordering::Release);
    }

    /// Returns the names of the checks that do not hold now, in the order they were added.
    pub fn failing(&self) -> Vec<&'static str> {
        let checks = self.inner.checks.read().unwrap_or_else(PoisonError::into_inner);
        let stopping = self.inner.is_stopping.load(Ordering::Acquire).then_some(STOPPING);
        let failing = checks.iter().filter(|(_, is_ready)| !is_ready()).map(|(name, _)| *name);
        stopping.into_iter().chain(failing).collect()
    }

    /// Shows of every check how long it has not held without a break, as
    /// `slotrush_interrupted_seconds{part}`, for ever.
    pub async fn measure(&self) {
        let mut parts: Vec<(Check, Interruption)> = Vec::new();
        loop {
            self.take_over(&mut parts);
            for ((_, is_ready), interruption) in &mut parts {
                interruption.note(is_ready());
            }
            tokio::time::sleep(MEASURE_EVERY).await;
        }
    }

    /// Adds the checks that were added since the last time.
    fn take_over(&self, parts: &mut Vec<(Check, Interruption)>) {
        let checks = self.inner.checks.read().unwrap_or_else(PoisonError::into_inner);
        let new = checks.iter().skip(parts.len());
        let new: Vec<_> = new.map(|check| (check.clone(), Interruption::of(check.0))).collect();
        parts.extend(new);
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("failing", &self.failing()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failing_check_is_named_and_a_stop_is_one() {
        let health = Health::default();
        assert!(health.failing().is_empty());
        let is_up = Arc::new(AtomicBool::new(false));
        health.check("always", Arc::new(|| true));
        let seen = Arc::clone(&is_up);
        health.check("server", Arc::new(move || seen.load(Ordering::Relaxed)));
        assert_eq!(health.failing(), ["server"]);
        is_up.store(true, Ordering::Relaxed);
        assert!(health.failing().is_empty());
        health.clone().stop();
        assert_eq!(health.failing(), [STOPPING]);
    }
}
