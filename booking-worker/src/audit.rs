//! The running audit: the invariants as metrics, and how much waits where.

mod rest;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use booking::{Partition, SessionId, UnixMs};
use inventory::SlotCount;
use ledger::audit::Violation;
use ledger::epoch::{EpochRow, EpochState};
use tokio_util::sync::CancellationToken;

use self::rest::Rest;
use crate::fault::Fault;
use crate::reconcile::{Error, Rounds};
use crate::{Servers, pause};

/// Every invariant that is checked, so that a clean one shows as 0 and not as absent.
const CHECKED: [&str; 7] = ["I1", "I2", "I5", "I6", "I9", "I11", "N1"];
/// Sessions whose counters are read at once.
const SESSIONS_PER_READ: usize = 100;
/// Violations that are logged in full in one audit.
const LOGGED_MAX: usize = 20;

/// Audits again and again while this process leads.
pub(crate) async fn run(
    servers: Servers,
    rounds: Rounds,
    every: Duration,
    shutdown: CancellationToken,
) {
    let mut auditing = Fault::of("the audit");
    let mut asking = Fault::of("asking how long the queues are");
    let (mut known, mut rest) = (BTreeSet::new(), Rest::new(every));
    not_audited();
    while pause(&shutdown, every).await {
        if rounds.borrow().is_none() {
            known.clear();
            rest.forget();
            not_audited();
            continue;
        }
        match auditing.note(audit_all(&servers, &mut rest).await) {
            Some(violations) => {
                report(&mut known, &violations);
                note_audit(servers.clock.now());
            }
            None => rest.forget(),
        }
        if let Some(depths) = asking.note(broker::depths(&servers.broker).await) {
            for (partition, depth) in depths.bookings.iter().enumerate() {
                metrics::gauge!("slotrush_queue_messages", "queue" => format!("bookings.{partition}"))
                    .set(*depth);
            }
            metrics::gauge!("slotrush_queue_messages", "queue" => "parking").set(depths.parking);
        }
    }
}

async fn audit_all(servers: &Servers, rest: &mut Rest) -> Result<Vec<Violation>, Error> {
    let mut violations = audit(servers).await?;
    violations.extend(rest.audit(servers).await?);
    Ok(violations)
}

/// Checks every invariant that one look can answer for; I6 takes several.
pub async fn audit(servers: &Servers) -> Result<Vec<Violation>, Error> {
    let mut violations = servers.ledger.audit().await?;
    let epochs = servers.ledger.epochs().await?;
    for row in epochs.iter().filter(|row| row.state == EpochState::Open) {
        violations.extend(conservation(servers, row).await?);
    }
    Ok(violations)
}

/// I11: what the ledger was granted is left or sold. Read session by session, each at one instant.
async fn conservation(servers: &Servers, row: &EpochRow) -> Result<Vec<Violation>, Error> {
    let grants = servers.ledger.grants(row.partition, row.epoch).await?;
    let sessions: BTreeSet<SessionId> = grants.iter().map(|grant| grant.slot.session()).collect();
    let sessions: Vec<SessionId> = sessions.into_iter().collect();
    let mut violations = Vec::new();
    for some in sessions.chunks(SESSIONS_PER_READ) {
        let counts = servers.inventory.snapshot(row.partition, some).await?;
        violations.extend(counts.iter().filter_map(|count| unconserved(row.partition, count)));
    }
    Ok(violations)
}

fn unconserved(partition: Partition, count: &SlotCount) -> Option<Violation> {
    let SlotCount { slot, left, granted, sold } = *count;
    if left.checked_add(sold) == Some(granted) {
        return None;
    }
    let detail = format!(
        "partition {partition}, slot {slot}: granted {granted} is not left {left} + sold {sold}"
    );
    Some(Violation { invariant: "I11", detail })
}

/// Says of every invariant that nothing is known, so that neither silence nor a number of before
/// passes for a clean audit.
fn not_audited() {
    for invariant in CHECKED {
        metrics::gauge!("slotrush_violations", "invariant" => invariant).set(f64::NAN);
    }
    metrics::gauge!("slotrush_audit_partitions_at_rest").set(f64::NAN);
    metrics::gauge!("slotrush_audit_timestamp_seconds").increment(0.0);
}

fn note_audit(at: UnixMs) {
    // Whole seconds: exact as a float for as long as anybody will ask.
    let seconds = Duration::from_millis(at.0.max(0).unsigned_abs()).as_secs_f64().floor();
    metrics::gauge!("slotrush_audit_timestamp_seconds").set(seconds);
}

/// Sets the gauges, and logs what is new or gone.
fn report(known: &mut BTreeSet<(&'static str, String)>, violations: &[Violation]) {
    let mut counts: BTreeMap<&'static str, u32> = CHECKED.iter().map(|name| (*name, 0)).collect();
    for violation in violations {
        *counts.entry(violation.invariant).or_default() += 1;
    }
    for (invariant, count) in counts {
        metrics::gauge!("slotrush_violations", "invariant" => invariant).set(count);
    }
    let found: BTreeSet<(&'static str, String)> =
        violations.iter().map(|v| (v.invariant, v.detail.clone())).collect();
    for (invariant, detail) in found.difference(known).take(LOGGED_MAX) {
        tracing::error!(invariant, detail, "an invariant is broken");
    }
    if found.is_empty() && !known.is_empty() {
        tracing::info!("every invariant holds again");
    }
    *known = found;
}

#[cfg(test)]
mod tests {
    use booking::SlotId;

    use super::*;

    #[test]
    fn before_the_first_audit_every_invariant_is_named_and_none_is_called_clean() {
        let metrics = service::telemetry::Metrics::install();
        not_audited();
        let before = metrics.render();
        for invariant in CHECKED {
            let line = format!("slotrush_violations{{invariant=\"{invariant}\"}} NaN");
            assert!(before.contains(&line), "{before}");
        }
        assert!(before.contains("slotrush_audit_timestamp_seconds 0"), "{before}");
        report(&mut BTreeSet::new(), &[]);
        note_audit(UnixMs(1_700_000_000_900));
        let after = metrics.render();
        assert!(after.contains("slotrush_violations{invariant=\"I1\"} 0"), "{after}");
        assert!(after.contains("slotrush_audit_timestamp_seconds 1700000000"), "{after}");
    }

    #[test]
    fn what_is_granted_must_be_left_or_sold() {
        let slot = SlotId::from(512);
        let count = |left, granted, sold| SlotCount { slot, left, granted, sold };
        let here = Partition::new(0);
        assert_eq!(unconserved(here, &count(2, 5, 3)), None);
        assert!(unconserved(here, &count(3, 5, 3)).is_some());
        assert!(unconserved(here, &count(u32::MAX, 0, 1)).is_some());
    }
}
