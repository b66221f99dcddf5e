//! Requests in number, through everything of the gateway but its sockets, for `cargo xtask instructions`
//! to count what each costs.
//!
//! Runs under callgrind, which counts only inside [`measured_now`] and [`measured_together`], and writes
//! one dump at each [`end_of_kind`]. Everything is on one thread. The servers are real and private.

#[path = "../../tests/bookings/answer.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod answer;
#[path = "../../tests/bookings/clinic.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod clinic;
#[path = "../../tests/bookings/worker.rs"]
mod worker;

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use clap::Parser;
use gateway::server::Peer;
use gateway::server::body::{Deadlines, TimedBody};
use gateway::settings::Cli;
use http_body_util::BodyExt;
use service::telemetry::LastLines;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::clinic::{Clinic, Plan};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Requests of a kind that is answered at once.
const AT_ONCE: usize = 2_000;
/// Requests on their way together, of a kind that waits for servers …
const TOGETHER: usize = 64;
/// … and how often so many.
const GROUPS: usize = 10;
/// How often others get their turn between requests that are answered at once.
const TURN_EVERY: usize = 10;
/// Who finds the slot sold out.
const LOSERS: usize = 40;
const DEADLINES: Deadlines =
    Deadlines { per_read: Duration::from_secs(3), total: Duration::from_secs(10) };

fn main() -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let stage = runtime.block_on(Stage::set())?;
    let mut counts = serde_json::Map::new();
    let mut note = |kind: &str, requests: usize| {
        end_of_kind();
        counts.insert(kind.to_owned(), requests.into());
    };

    let nothing = |_| request(Method::GET, "/v1/nothing", None, Body::empty());
    note("none", stage.at_once(&runtime, StatusCode::NOT_FOUND, nothing)?);
    let sold_out = |n: usize| stage.wish(1 + n % LOSERS, 0, &format!("key-{n}"));
    runtime.block_on(stage.until_remembered(sold_out))?;
    note("sold_out", stage.at_once(&runtime, StatusCode::CONFLICT, sold_out)?);

    let accepted = |n: usize| stage.wish(1 + LOSERS + n, 1, "accepted");
    let mut bookings = Vec::new();
    for group in 0..GROUPS {
        let numbers = (0..TOGETHER).map(|n| accepted(group * TOGETHER + n));
        bookings.extend(stage.together(&runtime, StatusCode::ACCEPTED, numbers)?);
    }
    note("accepted", bookings.len());
    let ids = bookings.iter().map(|body| {
        let json: serde_json::Value = serde_json::from_slice(body)?;
        Ok(json["id"].as_str().context("an id")?.to_owned())
    });
    let ids = ids.collect::<Result<Vec<String>>>()?;
    let poll = |n: usize| {
        let token = &stage.clinic.patients[1 + LOSERS + n].2;
        request(Method::GET, &format!("/v1/bookings/{}", ids[n]), Some(token), Body::empty())
    };
    note("poll_queued", stage.polls(&runtime, poll)?);
    runtime.block_on(async { stage.clinic.start_worker(false) });
    runtime.block_on(stage.until_final(poll))?;
    note("poll_final", stage.polls(&runtime, poll)?);
    println!("{}", serde_json::Value::Object(counts));
    stage.shutdown.cancel();
    Ok(())
}

/// Everything a gateway needs, a sold-out slot and one with places.
struct Stage {
    clinic: Clinic,
    service: Router,
    shutdown: CancellationToken,
    _links: CancellationToken,
    _last_lines: LastLines,
}

impl Stage {
    async fn set() -> Result<Self> {
        let accepted = GROUPS * TOGETHER;
        let mut plan =
            Plan::of(&[1, u32::try_from(accepted)?], u32::try_from(1 + LOSERS + accepted)?);
        // On, and never reached: what is counted is the counting.
        let rates = ["account", "address", "session"].into_iter();
        let rates = rates.flat_map(|limit| {
            ["per-second", "burst"].map(|what| format!("--limit-{limit}-{what}=1000000"))
        });
        plan.args = rates.collect();
        let mut clinic = Clinic::open(plan).await?;
        let won = clinic.book(0, clinic.slots[0], "k").await?;
        ensure!(won.status().0 == 202, "the one place is sold");
        clinic.stop_gateway().await?;
        let settings = Cli::try_parse_from(&clinic.cli)?.settings;
        let last_lines = service::telemetry::init(&settings.telemetry, &broker::MUTED_LOG_TARGETS)?;
        let (shutdown, links) = (CancellationToken::new(), CancellationToken::new());
        let addresses = settings.stores.addresses()?;
        let app = gateway::start(settings, &addresses, &shutdown, &links)?;
        gateway::begin(&app, &shutdown).await?;
        testkit::eventually("RabbitMQ", Duration::from_mins(1), async || {
            (app.publisher.link() == broker::Link::Up && app.inventory.is_up()).then_some(())
        })
        .await?;
        for (_, _, token) in &clinic.patients {
            // A token's signature is checked once in its life; that is not what is counted here.
            ensure!(app.tokens.verify(token).is_some(), "the token is good");
        }
        let service = gateway::routes::service(&app);
        Ok(Self { clinic, service, shutdown, _links: links, _last_lines: last_lines })
    }

    fn wish(&self, patient: usize, slot: usize, key: &str) -> Request<Body> {
        let (_, patient, token) = &self.clinic.patients[patient];
        let slot = self.clinic.slots[slot];
        let body = format!(r#"{{"slot_id":"{slot}","patient_id":"{patient}"}}"#);
        let mut request = request(Method::POST, "/v1/bookings", Some(token), body.into());
        let headers = request.headers_mut();
        headers.insert("content-type", "application/json".parse().expect("a header value"));
        headers.insert("idempotency-key", key.parse().expect("a header value"));
        request
    }

    /// Sends requests one after the other; returns how many were answered at once, all of them so.
    fn at_once(
        &self,
        runtime: &Runtime,
        expected: StatusCode,
        request: impl Fn(usize) -> Request<Body>,
    ) -> Result<usize> {
        let mut done = 0;
        for n in 0.. {
            if n % TURN_EVERY == 0 {
                runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
            }
            ensure!(n < 2 * AT_ONCE, "too many were not answered at once");
            let guard = runtime.enter();
            let status = measured_now(&self.service, request(n));
            drop(guard);
            match status {
                // It went to ask a server, for all the others.
                None => continue,
                Some(status) => ensure!(status == expected, "{status} instead of {expected}"),
            }
            done += 1;
            if done == AT_ONCE {
                break;
            }
        }
        Ok(done)
    }

    /// Sends requests together; returns the bodies of the answers.
    fn together(
        &self,
        runtime: &Runtime,
        expected: StatusCode,
        requests: impl Iterator<Item = Request<Body>>,
    ) -> Result<Vec<Bytes>> {
        let responses = measured_together(runtime, &self.service, requests.collect());
        let bodies = responses.into_iter().map(|response| {
            ensure!(response.status() == expected, "{} instead of {expected}", response.status());
            Ok(runtime.block_on(response.into_body().collect())?.to_bytes())
        });
        bodies.collect()
    }

    fn polls(&self, runtime: &Runtime, poll: impl Fn(usize) -> Request<Body>) -> Result<usize> {
        for group in 0..GROUPS {
            let numbers = group * TOGETHER..(group + 1) * TOGETHER;
            self.together(runtime, StatusCode::OK, numbers.map(&poll))?;
        }
        Ok(GROUPS * TOGETHER)
    }

    /// Waits until the sold-out slot is answered from memory.
    async fn until_remembered(&self, request: impl Fn(usize) -> Request<Body>) -> Result<()> {
        testkit::eventually("a remembered refusal", Duration::from_mins(1), async || {
            let mut answer = pin!(self.service.clone().oneshot(request(0)));
            if futures::poll!(&mut answer).is_ready() {
                return Some(());
            }
            answer.await.ok();
            None
        })
        .await
    }

    /// Waits until all bookings are final.
    async fn until_final(&self, poll: impl Fn(usize) -> Request<Body>) -> Result<()> {
        for n in 0..GROUPS * TOGETHER {
            testkit::eventually("a final booking", Duration::from_mins(2), async || {
                let response = self.service.clone().oneshot(poll(n)).await.ok()?;
                let body = response.into_body().collect().await.ok()?.to_bytes();
                String::from_utf8_lossy(&body).contains("\"booked\"").then_some(())
            })
            .await?;
        }
        Ok(())
    }
}

fn request(method: Method, path: &str, token: Option<&String>, body: Body) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(body).expect("a request")
}

/// What the door does with a request before the routes see it.
fn at_the_door(request: Request<Body>) -> Request<Body> {
    let mut request = request.map(|body| Body::new(TimedBody::new(body, DEADLINES)));
    request.extensions_mut().insert(Peer(([127, 0, 0, 1], 1).into()));
    request
}

/// Answers a request; `None` if that can't be done at once. Counted.
#[inline(never)]
fn measured_now(service: &Router, request: Request<Body>) -> Option<StatusCode> {
    let answer = service.clone().oneshot(at_the_door(request));
    let mut answer = pin!(answer);
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(response)) => Some(black_box(response).status()),
        Poll::Pending => None,
    }
}

/// Answers requests that came together. Counted, with all that runs on this thread meanwhile.
#[inline(never)]
fn measured_together(
    runtime: &Runtime,
    service: &Router,
    requests: Vec<Request<Body>>,
) -> Vec<Response> {
    let answers = requests.into_iter().map(at_the_door);
    let answers = answers.map(|request| service.clone().oneshot(request));
    let Ok(responses) = runtime.block_on(async { futures::future::try_join_all(answers).await });
    responses
}

/// Callgrind dumps its counters here.
#[inline(never)]
fn end_of_kind() {
    black_box(());
}
