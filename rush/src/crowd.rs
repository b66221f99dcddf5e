//! The rush itself: everybody at once, each on their own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::bail;
use booking::{Clock as _, SystemClock, UnixMs};
use ledger::Ledger;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Client;
use crate::history::{History, Plan, Recorder};
use crate::patient::{Ending, Patient, Waiting};
use crate::prepare::{self, Member};
use crate::progress::{Counters, Display};
use crate::schedule;
use crate::settings::RunArgs;
use crate::tally::{Percentiles, Tally};
use crate::tokens::Minter;

/// The earliest patients come this long before the opening.
const EARLIEST: Duration = Duration::from_secs(1);

/// What came of a rush, as the crowd saw it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Final answers, by outcome.
    pub answers: BTreeMap<String, u64>,
    /// Latencies of requests, by outcome; of `booked`, until the place was certain.
    pub latency_ms: BTreeMap<String, Percentiles>,
    /// From the opening to the last patient's first answer, ms.
    pub answered_ms: u64,
    /// From the opening to the last final answer, ms.
    pub rush_ms: u64,
    /// Patients without a final answer.
    pub unanswered: u64,
}

/// Prepares a release and a crowd, lets it rush, and returns all that was said.
///
/// # Errors
/// If the system can't be prepared. What happens in the rush is the history, never an error.
pub async fn rush(args: &RunArgs, ledger: &Ledger) -> anyhow::Result<(Plan, History, Outcome)> {
    let (what, who) = (&args.preparation, &args.crowd);
    let client = || {
        let timeout = Duration::from_secs(args.request_timeout_s);
        Client::new(&args.target.gateway, args.connections as usize, timeout)
    };
    let (bookings, polls) = (client()?, client()?);
    eprintln!("  creating {} accounts, each with a patient", who.patients);
    let members = prepare::gather(ledger, who.patients).await?;
    let minter = Minter::load(&who.token_key_file)?;
    let tokens = members.iter().map(|m| minter.mint(*m)).collect::<anyhow::Result<Vec<_>>>()?;
    eprintln!("  creating a hospital and a release of {} places, preheating it", what.places);
    let plan = prepare::release(&bookings, what).await?;
    bookings.warm((args.connections as usize).min(members.len())).await;
    let opens_in = Duration::from_millis(plan.opens_at.since(SystemClock.now()));
    if opens_in < EARLIEST {
        bail!("preparing took longer than the lead: give --lead-ms more than {}", what.lead_ms);
    }
    eprintln!(
        "  the release opens in {:.1} s; {} patients wait",
        opens_in.as_secs_f64(),
        members.len()
    );
    let opening = Instant::now() + opens_in;
    let mut rng =
        args.seed.map_or_else(|| StdRng::from_rng(&mut rand::rng()), StdRng::seed_from_u64);
    let visits =
        schedule::draw(who.patients, plan.places(), plan.offers.len(), args.manners, &mut rng);
    let waiting = Arc::new(Waiting {
        bookings,
        polls,
        plan: plan.clone(),
        run: format!("rush-{:08x}", rng.random::<u32>()),
        recorder: Recorder::default(),
        tally: Tally::default(),
        counters: Counters::default(),
        opening,
        deadline: opening + Duration::from_secs(args.patience_s),
    });
    let mut patients = JoinSet::new();
    for ((member, authorization), visit) in members.iter().zip(tokens).zip(visits) {
        let waiting = Arc::clone(&waiting);
        patients.spawn(Patient { id: member.patient, authorization, visit, waiting }.visit());
    }
    let display = Display::new(who.patients, args.counter_file.as_deref())?;
    let outcome = watch(patients, &waiting, &display, plan.opens_at).await;
    let history = waiting.recorder.finish(crowd_of(&members));
    Ok((plan, history, outcome))
}

fn crowd_of(members: &[Member]) -> Vec<booking::PatientId> {
    members.iter().map(|member| member.patient).collect()
}

/// Waits for every patient, showing how far they are.
async fn watch(
    mut patients: JoinSet<Ending>,
    waiting: &Waiting,
    display: &Display,
    opens_at: UnixMs,
) -> Outcome {
    let mut outcome = Outcome::default();
    let gather = async {
        while let Some(ended) = patients.join_next().await {
            // A patient whose task broke got no final answer either.
            let ending = ended.unwrap_or(Ending::Unanswered);
            outcome.unanswered += u64::from(ending == Ending::Unanswered);
            *outcome.answers.entry(ending.outcome()).or_default() += 1;
        }
    };
    tokio::select! {
        () = gather => {}
        () = display.follow(&waiting.counters) => {}
    }
    display.finish(&waiting.counters);
    outcome.answered_ms = waiting.counters.answered_ms.load(Ordering::Relaxed);
    outcome.rush_ms = SystemClock.now().since(opens_at);
    outcome.latency_ms = waiting.tally.percentiles();
    outcome
}
