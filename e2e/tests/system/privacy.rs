//! What must not be found anywhere but sealed in PostgreSQL.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use booking::{BookingId, Epoch, Partition};
use broker::{Delivered, Handler, Verdict};
use e2e::admin::{expect, log_in, send};
use e2e::{Options, SOON, System};
use hyper::Method;
use hyper::header::HeaderValue;
use serde_json::{Value, json};
use testkit::eventually;
use tokio_util::sync::CancellationToken;

const LOGIN: &str = "marker.login.7Q";
const PASSWORD: &str = "Marker-Password-7Q";
const NAME: &str = "Markerina Sevenqueue";
/// Of a passport, so that no check digit stands in the way of a marker.
const ID_NUMBER: &str = "MARKER7Q77";
const MARKERS: [&str; 4] = [LOGIN, PASSWORD, NAME, ID_NUMBER];

#[tokio::test]
async fn neither_logs_nor_metrics_nor_queues_nor_redis_hold_personal_data() -> Result<()> {
    let options = Options { places: 4, patients: 0, log: "debug", ..Options::default() };
    let mut system = System::start(options).await?;
    let account = Account::register(&system).await?;
    account.make_mistakes(&system).await?;

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

    let mut places = vec![("queues".to_owned(), bodies.join("\n"))];
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
        for marker in MARKERS {
            let found =
                text.lines().find(|line| line.to_lowercase().contains(&marker.to_lowercase()));
            assert_eq!(found, None, "{marker} in {place}");
        }
        let token = account.authorization.to_str()?.trim_start_matches("Bearer ");
        assert!(!text.contains(token), "an access token in {place}");
    }
    system.plan.prepared_at = booking::UnixMs(0);
    system.members.push(account.member(&system).await?);
    system.finish().await
}

/// Somebody with data of their own.
struct Account {
    authorization: HeaderValue,
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
        Ok(Self { authorization, patient })
    }

    /// What goes wrong is what gets logged.
    async fn make_mistakes(&self, system: &System) -> Result<()> {
        let client = system.client(0);
        let mistakes = [
            ("/v1/accounts", json!({"login": LOGIN, "password": PASSWORD}), 409),
            ("/v1/tokens", json!({"login": LOGIN, "password": "wrong"}), 401),
            ("/v1/tokens", json!({"login": LOGIN, "password": PASSWORD, "more": NAME}), 400),
            ("/v1/patients", json!({"name": NAME, "id_number": "1"}), 400),
            ("/v1/patients", json!({"name": NAME, "id_number": ID_NUMBER, NAME: 1}), 400),
            ("/v1/bookings", json!({"slot_id": NAME, "patient_id": ID_NUMBER}), 400),
        ];
        for (path, body, status) in mistakes {
            let reply = send(client, Method::POST, path, Some(&self.authorization), &body).await?;
            expect(&reply, status).with_context(|| path.to_owned())?;
        }
        let path = format!("/v1/doctors?department_id={LOGIN}");
        send(client, Method::GET, &path, Some(&self.authorization), &Value::Null).await?;
        Ok(())
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
