//! What must not be found anywhere but sealed in PostgreSQL.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use booking::{BookingId, Epoch, Partition};
use broker::{Delivered, Handler, Verdict};
use e2e::admin::{expect, log_in, send};
use e2e::{Options, SOON, System};
use hyper::Method;
use hyper::header::HeaderValue;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use testkit::{Programs, eventually};
use tokio_util::sync::CancellationToken;

const LOGIN: &str = "marker.login.7Q";
const PASSWORD: &str = "Marker-Password-7Q";
const NAME: &str = "Markerina Sevenqueue";
/// Of a passport, so that no check digit stands in the way of a marker.
const ID_NUMBER: &str = "MARKER7Q77";
const MARKERS: [&str; 4] = [LOGIN, PASSWORD, NAME, ID_NUMBER];

#[tokio::test]
async fn neither_logs_nor_metrics_nor_queues_nor_redis_hold_personal_data() -> Result<()> {
    let options = Options { places: 4, patients: 0, log: "trace", ..Options::default() };
    let mut system = System::start(options).await?;
    let account = Account::register(&system).await?;
    let mistakes = account.make_mistakes(&system).await?;

    // Without a worker the bookings stay in queue and outbox, where they can be read.
    system.workers[0].terminate();
    system.workers[0].ended(SOON).await?;
    let id = account.book(&system).await?;
    let bodies = peek(&system).await?;
    assert!(bodies.iter().any(|body| body.contains(&id.to_string())), "{bodies:?}");
    system.workers[0].start_again()?;
    eventually("the row", SOON, || async {
        let rows = system.ledger().find_bookings(&[id]).await.ok()?;
        (!rows.is_empty()).then_some(())
    })
    .await?;
    account.cancel(&system, id).await?;

    let mut places = vec![
        ("queues".to_owned(), bodies.join("\n")),
        ("answers to mistakes".to_owned(), mistakes.join("\n")),
        ("PostgreSQL".to_owned(), database_dump(&system)?),
    ];
    for program in system.gateways.iter().chain(&system.workers) {
        let log = program.log()?;
        ensure!(log.lines().count() > 5, "the log is there: {log}");
        places.push(("log".to_owned(), log));
        places.push(("metrics".to_owned(), program.metrics().await?));
    }
    let redis = redis_files(&system.folder()?.join("redis"))?;
    ensure!(redis.contains(&id.to_string()), "Redis writes what it is told");
    places.push(("Redis".to_owned(), redis));
    for (place, text) in places {
        // Also as bytes, the way PostgreSQL writes them.
        let hex = |marker: &str| {
            let digits: Vec<_> = marker.bytes().map(|byte| format!("{byte:02x}")).collect();
            digits.concat()
        };
        for marker in MARKERS.into_iter().flat_map(|marker| [marker.to_lowercase(), hex(marker)]) {
            let found = text.lines().find(|line| line.to_lowercase().contains(&marker));
            assert_eq!(found, None, "{marker} in {place}");
        }
        let token = account.authorization.to_str()?.trim_start_matches("Bearer ");
        for secret in [token, &account.refresh_token, system.database_url().expose_secret()] {
            assert!(!text.contains(secret), "a token, or the address of the database, in {place}");
        }
    }
    system.plan.prepared_at = booking::UnixMs(0);
    system.members.push(account.member(&system).await?);
    system.finish().await
}

/// Somebody with data of their own.
struct Account {
    authorization: HeaderValue,
    refresh_token: String,
    patient: Value,
}

impl Account {
    async fn register(system: &System) -> Result<Self> {
        let client = system.client(0);
        let who = json!({"login": LOGIN, "password": PASSWORD});
        expect(&send(client, Method::POST, "/v1/accounts", None, &who).await?, 201)?;
        let mut authorization = log_in(client, LOGIN, PASSWORD).await?;
        let whom = json!({"name": NAME, "id_number": ID_NUMBER});
        let path = "/v1/patients";
        let added = send(client, Method::POST, path, Some(&authorization), &whom).await?;
        let patient = expect(&added, 201)?["id"].clone();
        // A token names the patients its account may act for.
        authorization = log_in(client, LOGIN, PASSWORD).await?;
        let tokens = expect(&send(client, Method::POST, "/v1/tokens", None, &who).await?, 201)?;
        let refresh_token = tokens["refresh_token"].as_str().context("a token")?.to_owned();
        Ok(Self { authorization, refresh_token, patient })
    }

    /// What goes wrong is what gets logged. Returns the answers.
    async fn make_mistakes(&self, system: &System) -> Result<Vec<String>> {
        let client = system.client(0);
        let mistakes = [
            ("/v1/accounts", json!({"login": LOGIN, "password": PASSWORD}), 409),
            ("/v1/tokens", json!({"login": LOGIN, "password": "wrong"}), 401),
            ("/v1/tokens", json!({"login": LOGIN, "password": PASSWORD, "more": NAME}), 400),
            ("/v1/patients", json!({"name": NAME, "id_number": "1"}), 400),
            ("/v1/patients", json!({"name": NAME, "id_number": ID_NUMBER, NAME: 1}), 400),
            ("/v1/bookings", json!({"slot_id": NAME, "patient_id": ID_NUMBER}), 400),
        ];
        let mut answers = Vec::new();
        for (path, body, status) in mistakes {
            let reply = send(client, Method::POST, path, Some(&self.authorization), &body).await?;
            expect(&reply, status).with_context(|| path.to_owned())?;
            answers.push(without_names(&reply.body)?);
        }
        for path in [
            format!("/v1/doctors?department_id={LOGIN}"),
            format!("/v1/hospitals?{ID_NUMBER}=1"),
            format!("/v1/bookings?cursor={ID_NUMBER}"),
            format!("/v1/bookings/{ID_NUMBER}"),
            format!("/{LOGIN}"),
        ] {
            let who = Some(&self.authorization);
            let reply = send(client, Method::GET, &path, who, &Value::Null).await?;
            ensure!(reply.status >= 400, "{path}: {}", reply.status);
            answers.push(without_names(&reply.body)?);
        }
        Ok(answers)
    }

    async fn book(&self, system: &System) -> Result<BookingId> {
        let headers = [
            ("authorization", self.authorization.clone()),
            ("idempotency-key", HeaderValue::from_static("once")),
        ];
        let slot = system.plan.offers[0].slot;
        let body = json!({"slot_id": slot, "patient_id": self.patient}).to_string();
        let sent = system.client(0).send(Method::POST, "/v1/bookings", &headers, body.into()).await;
        let rush::client::Sent::Reply(reply) = sent else { anyhow::bail!("no answer") };
        let booking = expect(&reply, 202)?;
        // Queued, or pending where a check took too long: it is in the queue either way.
        assert_ne!(booking["status"], "booked");
        Ok(serde_json::from_value(booking["id"].clone())?)
    }

    async fn cancel(&self, system: &System, id: BookingId) -> Result<()> {
        let path = format!("/v1/bookings/{id}/cancel");
        let (client, none) = (system.client(0), Value::Null);
        let reply = send(client, Method::POST, &path, Some(&self.authorization), &none).await?;
        expect(&reply, 200).map(drop)
    }

    async fn member(&self, system: &System) -> Result<rush::prepare::Member> {
        let patient = serde_json::from_value(self.patient.clone())?;
        let rows =
            system.ledger().changed_since(system.partition(), booking::UnixMs(0), 10).await?;
        let account = rows.first().context("the booking")?.booking.account;
        Ok(rush::prepare::Member { account, patient })
    }
}

/// Reads what is in the queues and takes nothing out.
async fn peek(system: &System) -> Result<Vec<String>> {
    let (seen, stop) = (Seen::default(), CancellationToken::new());
    let (queues, partition, reader) = (system.queues(), system.partition(), seen.clone());
    let stopped = stop.clone();
    let reading =
        tokio::spawn(async move { broker::consume(&queues, partition, reader, stopped).await });
    eventually("a message", SOON, || async { (!seen.all().is_empty()).then_some(()) }).await?;
    stop.cancel();
    reading.await?;
    Ok(seen.all())
}

/// Notes bodies and headers, and is never done with a message.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Handler for Seen {
    async fn handle(&mut self, _: Partition, batch: &[Delivered]) -> Vec<Verdict> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for message in batch {
            all.push(String::from_utf8_lossy(&message.body).into_owned());
            all.extend(message.manifest.clone());
        }
        vec![Verdict::Retry { after: Duration::from_mins(1) }; batch.len()]
    }

    async fn drained(&mut self, _: Partition, _: Epoch) -> Verdict {
        Verdict::Retry { after: Duration::from_mins(1) }
    }
}

/// A problem without the names of the fields it points at: these are the client's own words, said
/// back to nobody else.
fn without_names(problem: &[u8]) -> Result<String> {
    let mut problem: Value = serde_json::from_slice(problem)?;
    let errors = problem["errors"].as_array_mut();
    errors.into_iter().flatten().for_each(|error| error["pointer"] = Value::Null);
    Ok(problem.to_string())
}

/// All that is in the database, as text.
fn database_dump(system: &System) -> Result<String> {
    let folder = Programs::find().postgres_bin.context("PostgreSQL is installed")?;
    let mut dump = Command::new(folder.join("pg_dump"));
    let output = dump.arg("--dbname").arg(system.database_url().expose_secret()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    ensure!(text.contains("COPY public.account"), "the accounts are in it");
    Ok(text)
}

/// All that Redis was told, from its append-only files.
fn redis_files(folder: &Path) -> Result<String> {
    let mut text = String::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            text += &redis_files(&path)?;
        } else {
            text += &String::from_utf8_lossy(&fs::read(&path)?);
        }
    }
    Ok(text)
}
