//! What a run came to.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::recovery::Percentiles;

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
