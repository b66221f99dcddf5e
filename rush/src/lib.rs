//! A crowd of patients that rushes for a release, what it was told, and the audit of it.
//!
//! Owns: preparing a release and a crowd on a running system, the open-loop rush over real HTTP,
//! the history of everything asked and answered, the audit of every invariant that can be checked
//! from outside, and the report.
//!
//! Must never know: how the programs work inside. It judges by the API's contract and by what
//! PostgreSQL, Redis and RabbitMQ hold at rest.
//!
//! Invariants: every request has an event, whatever became of it; a patient ends with a final
//! answer or is counted as unanswered; a latency runs from the moment the request was meant to
//! be sent, so a slow system can't hide behind a waiting crowd.
//!
//! Read first: [`patient`], then [`history`], then [`audit`].

pub mod admin;
pub mod answer;
pub mod audit;
pub mod client;
pub mod crowd;
pub mod data;
pub mod example;
pub mod history;
pub mod patient;
pub mod prepare;
pub mod progress;
pub mod report;
pub mod schedule;
pub mod settings;
pub mod tally;
pub mod tokens;

use std::time::Duration;

use anyhow::Context as _;

use audit::{Audit, Probe};
use history::{History, Plan};
use report::Report;
use settings::{AuditArgs, Cli, Command, Reporting, RunArgs};

/// Runs what the command line asks for; true if every patient was answered and nothing violated.
///
/// # Errors
/// If the system can't be prepared or looked at.
pub async fn run(cli: Cli) -> anyhow::Result<bool> {
    match cli.command {
        Command::Run(args) => rush(&args).await,
        Command::Data(args) => data::write(&args).await.map(|()| true),
        Command::Example(args) => example::show(&args).await.map(|()| true),
        Command::Audit(args) => audit_again(&args).await,
    }
}

async fn rush(args: &RunArgs) -> anyhow::Result<bool> {
    let probe = Probe::new(&args.target)?;
    let (plan, mut history, outcome) = crowd::rush(args, probe.ledger()).await?;
    history.redis_was_lost = args.reporting.redis_lost;
    if let Some(path) = &args.history {
        history.write(&plan, path)?;
    }
    eprintln!("  waiting for rest, then auditing");
    let audit = audit_now(&probe, &plan, &history, &args.reporting).await?;
    let report = Report::new(&plan, Some(outcome), &audit);
    finish(&report, &audit, &args.reporting)
}

async fn audit_again(args: &AuditArgs) -> anyhow::Result<bool> {
    let (plan, mut history) = History::read(&args.history)?;
    history.redis_was_lost |= args.reporting.redis_lost;
    let probe = Probe::new(&args.target)?;
    let audit = audit_now(&probe, &plan, &history, &args.reporting).await?;
    let report = Report::new(&plan, None, &audit);
    finish(&report, &audit, &args.reporting)
}

async fn audit_now(
    probe: &Probe,
    plan: &Plan,
    history: &History,
    reporting: &Reporting,
) -> anyhow::Result<Audit> {
    let stillness = probe.settle(Duration::from_secs(reporting.settle_s)).await;
    let evidence = probe.evidence(plan, history, stillness).await?;
    Ok(audit::judge(plan, history, &evidence))
}

fn finish(report: &Report, audit: &Audit, reporting: &Reporting) -> anyhow::Result<bool> {
    let text = report.text(audit);
    if reporting.json {
        // The last line of the output is the object, alone; the rest is for a person.
        eprint!("{text}");
        println!("{}", serde_json::to_string(report).context("writing the report")?);
    } else {
        print!("{text}");
    }
    Ok(report.is_clean())
}
