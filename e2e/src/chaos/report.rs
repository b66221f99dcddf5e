//! What a run came to.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::recovery::Percentiles;
use super::redis_pair::Lack;

/// The report. Its JSON form is one object; its fields are part of the command's contract.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Draws the same faults again.
    pub seed: u64,
    /// How long the run was meant to take.
    pub minutes: f64,
    /// Rounds that were judged.
    pub rounds: u64,
    /// Requests for a place.
    pub attempts: u64,
    /// Live appointments at the end of their rounds.
    pub booked: u64,
    /// Bookings answered "queued" that have no final row (I3).
    pub lost: u64,
    /// Appointments beyond one per patient and session, or per key (I5).
    pub duplicated: u64,
    /// Appointments nobody asked for, or whose every attempt was refused (I7).
    pub unexpected: u64,
    /// Appointments of patients who were never promised one: the answer was lost or left it open.
    pub recovered: u64,
    /// Appointments beyond a slot's capacity (I1).
    pub oversold: u64,
    /// Places that are neither booked, nor for sale, nor free (I6).
    pub leaked: u64,
    /// Repeats refused as sold out by a gateway that did not know yet: excepted from I8.
    pub hasty_refusals: u64,
    /// Bookings that were never more than pending and that went with Redis: excepted from I8 and I10.
    pub forgotten: u64,
    /// What failovers of Redis lost, so that they can be seen to lose something.
    pub lost_by_failover: LostByFailover,
    /// What was read of the workers' own audits.
    pub own_audits: OwnAudits,
    /// Every violation with its round.
    pub violations: Vec<String>,
    /// Strikes by kind.
    pub faults: BTreeMap<String, u64>,
    /// How long things took after their part's return, and after the last fault of a round, ms.
    pub recovery_ms: BTreeMap<String, Percentiles>,
    /// Recoveries that took longer than is promised (L2).
    pub slow_recovery: Vec<String>,
    /// Where the logs are, if they were kept.
    pub logs: Option<String>,
}

/// What replicas lacked that were promoted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LostByFailover {
    /// Failovers to a replica that had been cut off.
    pub failovers: u64,
    /// Those of them that lost no hold.
    pub without_loss: u64,
    /// Bytes of the replication stream.
    pub bytes: u64,
    /// Places taken that nobody in Redis knew of any more.
    pub holds: u64,
}

impl LostByFailover {
    /// Adds a failover.
    pub(super) fn add(&mut self, lack: Lack) {
        let without_loss = u64::from(lack.holds == 0);
        self.merge(Self { failovers: 1, without_loss, bytes: lack.bytes, holds: lack.holds });
    }

    /// Adds those of another round.
    pub(super) fn merge(&mut self, other: Self) {
        self.failovers += other.failovers;
        self.without_loss += other.without_loss;
        self.bytes += other.bytes;
        self.holds += other.holds;
    }
}

/// Audits that the workers made of themselves and the checker read.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct OwnAudits {
    /// All.
    pub read: u64,
    /// Those read while a fault was on.
    pub under_fault: u64,
}

impl Report {
    /// Writes the report for a person.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).map_or_else(|_| String::new(), |()| text)
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\n{} rounds with seed {}", self.rounds, self.seed)?;
        let counts = [
            ("attempts", self.attempts),
            ("booked", self.booked),
            ("recovered", self.recovered),
            ("lost", self.lost),
            ("duplicated", self.duplicated),
            ("unexpected", self.unexpected),
            ("oversold", self.oversold),
            ("leaked", self.leaked),
            ("hasty_refusals", self.hasty_refusals),
            ("forgotten", self.forgotten),
            ("failovers", self.lost_by_failover.failovers),
            ("... without a loss", self.lost_by_failover.without_loss),
            ("... bytes lost", self.lost_by_failover.bytes),
            ("... holds lost", self.lost_by_failover.holds),
            ("own audits read", self.own_audits.read),
            ("... under a fault", self.own_audits.under_fault),
        ];
        for (name, count) in counts {
            writeln!(out, "  {name:<24} {count:>8}")?;
        }
        writeln!(out, "\nFaults")?;
        for (kind, count) in &self.faults {
            writeln!(out, "  {kind:<24} {count:>8}")?;
        }
        writeln!(out, "\nRecovery                      count      p50      p90      max  ms")?;
        for (what, Percentiles { count, p50, p90, max }) in &self.recovery_ms {
            writeln!(out, "  {what:<24} {count:>8} {p50:>8} {p90:>8} {max:>8}")?;
        }
        for slow in &self.slow_recovery {
            writeln!(out, "  slow: {slow}")?;
        }
        if self.violations.is_empty() {
            return writeln!(out, "\nNothing violated.");
        }
        writeln!(out, "\n{} violations with seed {}", self.violations.len(), self.seed)?;
        for violation in &self.violations {
            writeln!(out, "  {violation}")?;
        }
        if let Some(logs) = &self.logs {
            writeln!(out, "logs are in {logs}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failover_that_lost_no_hold_is_counted_as_such() {
        let mut lost = LostByFailover::default();
        lost.add(Lack { bytes: 900, holds: 3 });
        lost.add(Lack { bytes: 50, holds: 0 });
        let sum = LostByFailover { failovers: 2, without_loss: 1, bytes: 950, holds: 3 };
        assert_eq!(lost, sum);
    }
}
