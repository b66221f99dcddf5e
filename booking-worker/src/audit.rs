//! The running audit: the invariants as metrics, and how much waits where.
//!
//! A *pass* judges every invariant over everything there is, in parts: ranges of slots, ids and keys in
//! PostgreSQL ([`ledger::audit::Part`]), then Redis session by session. No part takes longer when there
//! is more of everything, and between parts the audit rests, so that it takes its share of one core
//! and no more ([`pace`]); with a million slots a pass lasts minutes, with some thousand some seconds.

mod board;
mod pace;
mod pass;
mod places;
mod rest;

use std::time::{Duration, Instant};

use booking::{SlotId, UnixMs};
use ledger::audit::Violation;
use ledger::epoch::EpochState;
use tokio_util::sync::CancellationToken;

use self::board::Board;
use self::pace::Pace;
use self::rest::Rest;
use crate::fault::Fault;
use crate::reconcile::{Error, Rounds};
use crate::{Servers, pause};

pub use board::Shown;
pub use pass::Pass;

/// What is known of the invariants while this process leads.
#[derive(Debug)]
pub struct Audit {
    rows: u32,
    pass: Pass,
    rest: Rest,
    board: Board,
}

impl Audit {
    /// Knows nothing. Reads some `rows` rows in each part; is to be asked for leaks `every` so often.
    pub fn new(every: Duration, rows: u32) -> Self {
        let (pass, rest, board) = (Pass::begin(), Rest::new(every), Board::default());
        Self { rows, pass, rest, board }
    }

    /// Forgets everything: another process may lead meanwhile.
    pub fn forget(&mut self) {
        self.pass = Pass::begin();
        self.rest.forget();
        self.board = Board::default();
    }

    /// Judges the next part; tells whether the pass ended with it. After an error it is the next
    /// again.
    pub async fn step(&mut self, servers: &Servers) -> Result<bool, Error> {
        let is_done = self.pass.step(servers, self.rows, &mut self.rest).await?;
        self.board.note(self.pass.found(), &self.rest.leaks(), is_done);
        if is_done {
            metrics::gauge!("slotrush_audit_partitions_at_rest").set(self.pass.at_rest());
            self.pass = Pass::begin();
        }
        Ok(is_done)
    }

    /// Looks again at what differed between Redis and PostgreSQL.
    pub async fn look_again(&mut self, servers: &Servers) -> Result<(), Error> {
        self.rest.look_again(servers).await?;
        self.board.note(self.pass.found(), &self.rest.leaks(), false);
        Ok(())
    }

    /// What is shown of every invariant.
    pub fn shown(&self) -> Shown {
        self.board.shown()
    }
}

/// Rows of a part: a few milliseconds, because whoever books waits meanwhile if processors are few.
const ROWS_PER_PART: u32 = 1_000;

/// Audits again and again while this process leads.
pub(crate) async fn run(
    servers: Servers,
    rounds: Rounds,
    every: Duration,
    share_percent: u8,
    shutdown: CancellationToken,
) {
    let mut auditing = Fault::of("the audit");
    let mut asking = Fault::of("asking how long the queues are");
    let (mut audit, mut pace) = (Audit::new(every, ROWS_PER_PART), Pace::new(every, share_percent));
    let (mut wait, mut began, mut looked) = (every, None, None::<Instant>);
    not_audited(&audit);
    while pause(&shutdown, wait).await {
        wait = every;
        if rounds.borrow().is_none() {
            audit.forget();
            not_audited(&audit);
            began = None;
            continue;
        }
        if looked.is_none_or(|at| at.elapsed() >= every) {
            looked = Some(Instant::now());
            ask(&servers, &mut asking).await;
            if auditing.note(audit.look_again(&servers).await).is_none() {
                continue;
            }
        }
        // What was waited for elsewhere is no work.
        let started = Instant::now();
        let pass_began = *began.get_or_insert(started);
        if let Some(is_done) = auditing.note(audit.step(&servers).await) {
            wait = pace.after(started.elapsed(), is_done);
            audit.shown().set();
            if is_done {
                note_pass(servers.clock.now(), pass_began.elapsed());
                began = None;
            }
        }
    }
}

async fn ask(servers: &Servers, asking: &mut Fault) {
    if let Some(depths) = asking.note(broker::depths(&servers.broker).await) {
        for (partition, depth) in depths.bookings.iter().enumerate() {
            metrics::gauge!("slotrush_queue_messages", "queue" => format!("bookings.{partition}"))
                .set(*depth);
        }
        metrics::gauge!("slotrush_queue_messages", "queue" => "parking").set(depths.parking);
    }
}

/// Checks every invariant that one look can answer for, at once; I6 takes several.
pub async fn audit(servers: &Servers) -> Result<Vec<Violation>, Error> {
    let mut violations = servers.ledger.audit().await?;
    let epochs = servers.ledger.epochs().await?;
    for row in epochs.iter().filter(|row| row.state == EpochState::Open) {
        let mut next = Some(SlotId::from(0));
        while let Some(first) = next {
            let look = places::look(servers, row.partition, row.epoch, first).await?;
            violations.extend(look.unconserved);
            next = look.next;
        }
    }
    Ok(violations)
}

/// Says of every invariant that nothing is known, so that neither silence nor a number of before
/// passes for a clean audit.
fn not_audited(audit: &Audit) {
    audit.shown().set();
    metrics::gauge!("slotrush_audit_partitions_at_rest").set(f64::NAN);
    metrics::gauge!("slotrush_audit_pass_seconds").set(f64::NAN);
    metrics::gauge!("slotrush_audit_timestamp_seconds").increment(0.0);
}

fn note_pass(at: UnixMs, lasted: Duration) {
    // Whole seconds: exact as a float for as long as anybody will ask.
    let seconds = Duration::from_millis(at.0.max(0).unsigned_abs()).as_secs_f64().floor();
    metrics::gauge!("slotrush_audit_timestamp_seconds").set(seconds);
    metrics::gauge!("slotrush_audit_pass_seconds").set(lasted.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_first_pass_every_invariant_is_named_and_none_is_called_clean() {
        let metrics = service::telemetry::Metrics::install();
        let mut audit = Audit::new(Duration::from_secs(10), 1);
        not_audited(&audit);
        let before = metrics.render();
        for invariant in board::CHECKED {
            let line = format!("slotrush_violations{{invariant=\"{invariant}\"}} NaN");
            assert!(before.contains(&line), "{before}");
        }
        assert!(before.contains("slotrush_audit_timestamp_seconds 0"), "{before}");
        audit.board.note(&[], &[], true);
        audit.shown().set();
        note_pass(UnixMs(1_700_000_000_900), Duration::from_millis(1_500));
        let after = metrics.render();
        assert!(after.contains("slotrush_violations{invariant=\"I1\"} 0"), "{after}");
        assert!(after.contains("slotrush_audit_timestamp_seconds 1700000000"), "{after}");
        assert!(after.contains("slotrush_audit_pass_seconds 1.5"), "{after}");
    }
}
