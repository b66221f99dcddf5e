//! The same crowd at another door: everybody asks once for one slot, and has the answer at once.
//!
//! For comparison: the requests, tokens and connections are those of the rush.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use booking::{AccountId, PatientId, SlotId};
use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderValue;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::answer::Answer;
use crate::client::Client;
use crate::prepare::Member;
use crate::settings::DirectArgs;
use crate::tally::{Percentiles, Tally};
use crate::tokens::Minter;

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Patients who have a place.
    pub booked: u64,
    /// From the start to the last answer, ms.
    pub answered_ms: u64,
    /// By outcome.
    pub latency_ms: BTreeMap<String, Percentiles>,
}

/// Lets everybody book at once and prints one JSON object.
///
/// # Errors
/// If the tokens can't be signed or the address is none.
pub async fn run(args: &DirectArgs) -> anyhow::Result<()> {
    let timeout = Duration::from_secs(args.request_timeout_s);
    let client = Arc::new(Client::new(&args.gateway, args.connections as usize, timeout)?);
    let minter = Minter::load(&args.crowd.token_key_file)?;
    let slot = SlotId::from(args.slot);
    let crowd = (1..=i64::from(args.crowd.patients)).map(|id| {
        let (account, patient) = (AccountId::from(id), PatientId::from(id));
        Ok((patient, minter.mint(Member { account, patient })?))
    });
    let crowd = crowd.collect::<anyhow::Result<Vec<_>>>()?;
    client.warm(args.connections as usize).await;
    let tally = Arc::new(Tally::default());
    let start = Instant::now();
    let mut patients = JoinSet::new();
    for (patient, authorization) in crowd {
        let (client, tally) = (Arc::clone(&client), Arc::clone(&tally));
        patients.spawn(async move {
            let body = format!(r#"{{"slot_id":"{slot}","patient_id":"{patient}"}}"#);
            let key = format!("direct-{patient}");
            let headers = [
                ("authorization", authorization),
                (
                    "idempotency-key",
                    HeaderValue::from_str(&key).unwrap_or(HeaderValue::from_static("k")),
                ),
            ];
            let sent = client.send(Method::POST, "/v1/bookings", &headers, Bytes::from(body)).await;
            let answer = Answer::read(&sent);
            tally.count(answer.outcome(), start.elapsed());
            matches!(answer, Answer::Booking { .. })
        });
    }
    let mut booked = 0;
    while let Some(has_place) = patients.join_next().await {
        booked += u64::from(has_place.unwrap_or(false));
    }
    let answered_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let report = Report { booked, answered_ms, latency_ms: tally.percentiles() };
    println!("{}", serde_json::to_string(&report).context("writing the report")?);
    Ok(())
}
