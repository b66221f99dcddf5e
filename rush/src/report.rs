//! What a rush came to, for a person and for a program.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::audit::Audit;
use crate::crowd::Outcome;
use crate::history::Plan;
use crate::tally::Percentiles;

/// The report. Its JSON form is one object; its fields are part of the command's contract.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Patients in the crowd; 0 where only an audit was made.
    pub patients: u64,
    /// Places on offer.
    pub places: u32,
    /// Live appointments.
    pub booked: u64,
    /// Appointments beyond capacity.
    pub oversold: u64,
    /// Bookings answered "queued" without a row.
    pub lost: u64,
    /// Appointments beyond one per patient and session, or per key.
    pub duplicated: u64,
    /// Places neither booked, nor for sale, nor free.
    pub leaked: u64,
    /// Patients without a final answer.
    pub unanswered: u64,
    /// Every violation, led by the invariant's name.
    pub violations: Vec<String>,
    /// Final answers by outcome: one per patient.
    pub answers: BTreeMap<String, u64>,
    /// Answers to single requests by outcome.
    pub requests: BTreeMap<String, u64>,
    /// Latencies by outcome, from the moment each request was meant to be sent.
    pub latency_ms: BTreeMap<String, Percentiles>,
    /// From the opening to the last patient's first answer, ms.
    pub answered_ms: u64,
    /// From the opening to the last patient's final answer, ms.
    pub rush_ms: u64,
    /// From the opening until the last booking was durable, ms.
    pub settled_ms: u64,
}

impl Report {
    /// Puts together what the crowd saw and what the audit found.
    pub fn new(plan: &Plan, outcome: Option<Outcome>, audit: &Audit) -> Self {
        let outcome = outcome.unwrap_or_default();
        let mut violations = audit.violations();
        let patients: u64 = outcome.answers.values().sum();
        if outcome.unanswered > 0 {
            violations.push(format!("{} patients got no final answer", outcome.unanswered));
        }
        // Every place is wanted by somebody determined, so this is exact: see `schedule`.
        let demand = patients.min(u64::from(audit.places));
        if patients > 0 && audit.booked != demand {
            violations.push(format!("I6: {} places were booked, not {demand}", audit.booked));
        }
        let settled_at = audit.last_persisted_at.unwrap_or(plan.opens_at);
        Self {
            patients,
            places: audit.places,
            booked: audit.booked,
            oversold: audit.oversold,
            lost: audit.lost,
            duplicated: audit.duplicated,
            leaked: audit.leaked,
            unanswered: outcome.unanswered,
            violations,
            answers: outcome.answers,
            requests: outcome.latency_ms.iter().map(|(o, p)| (o.clone(), p.count)).collect(),
            latency_ms: outcome.latency_ms,
            answered_ms: outcome.answered_ms,
            rush_ms: outcome.rush_ms,
            settled_ms: settled_at.since(plan.opens_at),
        }
    }

    /// Tells whether nothing was violated and everybody was answered.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// Writes the report for a person.
    pub fn text(&self, audit: &Audit) -> String {
        let mut text = String::new();
        self.write(audit, &mut text).map_or_else(|_| String::new(), |()| text)
    }

    fn write(&self, audit: &Audit, out: &mut String) -> std::fmt::Result {
        if self.patients > 0 {
            writeln!(
                out,
                "\nHow it ended for {} patients and {} places",
                self.patients, self.places
            )?;
            for (outcome, count) in &self.answers {
                writeln!(out, "  {outcome:<28} {count:>9}")?;
            }
            writeln!(
                out,
                "\nAnswers to single requests      count      p50      p90      p99      max  ms"
            )?;
            for (outcome, p) in &self.latency_ms {
                let Percentiles { count, p50, p90, p99, max } = p;
                writeln!(
                    out,
                    "  {outcome:<28} {count:>7} {p50:>8.1} {p90:>8.1} {p99:>8.1} {max:>8.1}"
                )?;
            }
            writeln!(
                out,
                "  (from the moment a request was meant to be sent; \"booked\" until the place was certain)"
            )?;
            for (what, ms) in [
                ("\n  last first answer", self.answered_ms),
                ("  last booking durable", self.settled_ms),
                ("  last final answer", self.rush_ms),
            ] {
                writeln!(out, "{what:<25} {ms:>8} ms after the opening")?;
            }
        }
        writeln!(
            out,
            "\nAudit: {} of {} places booked, {} oversold, {} lost, {} duplicated, {} leaked",
            self.booked, self.places, self.oversold, self.lost, self.duplicated, self.leaked
        )?;
        out.push_str(&audit.table());
        let told: Vec<String> = audit.violations();
        for violation in self.violations.iter().filter(|v| !told.contains(v)) {
            writeln!(out, "  ✘ {violation}")?;
        }
        let verdict =
            if self.is_clean() { "Everything holds." } else { "SOMETHING DOES NOT HOLD." };
        writeln!(out, "\n{verdict}")
    }
}

#[cfg(test)]
mod tests {
    use booking::{ReleaseId, UnixMs};

    use super::*;

    fn plan() -> Plan {
        Plan {
            release: ReleaseId::from(1),
            prepared_at: UnixMs(0),
            opens_at: UnixMs(1_000),
            offers: Vec::new(),
        }
    }

    fn report(booked: u64, answers: &[(&str, u64)], unanswered: u64) -> Report {
        let audit = Audit {
            places: 10,
            booked,
            last_persisted_at: Some(UnixMs(1_250)),
            ..Audit::default()
        };
        let answers = answers.iter().map(|(outcome, n)| ((*outcome).to_owned(), *n)).collect();
        let outcome = Outcome { answers, unanswered, ..Outcome::default() };
        Report::new(&plan(), Some(outcome), &audit)
    }

    #[test]
    fn every_place_that_was_wanted_must_be_booked() {
        assert!(report(10, &[("booked", 10), ("slot_exhausted", 90)], 0).is_clean());
        assert!(report(3, &[("booked", 3)], 0).is_clean());
        assert!(!report(9, &[("booked", 9), ("slot_exhausted", 91)], 0).is_clean());
    }

    #[test]
    fn a_patient_without_an_answer_is_a_violation() {
        assert!(!report(10, &[("booked", 10), ("unanswered", 1)], 1).is_clean());
    }

    #[test]
    fn the_json_form_has_the_fields_of_the_contract() {
        let json = serde_json::to_value(report(10, &[("booked", 10)], 0)).expect("serialises");
        for field in [
            "patients",
            "places",
            "booked",
            "oversold",
            "lost",
            "duplicated",
            "leaked",
            "violations",
            "answers",
            "latency_ms",
            "answered_ms",
            "rush_ms",
            "settled_ms",
        ] {
            assert!(json.get(field).is_some(), "{field}");
        }
        assert_eq!(json["settled_ms"], 250);
    }
}
