//! Booking within the request, behind the gateway's front.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{FromRequest as _, Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, post};
use booking::{PatientId, SlotId, SystemClock};
use gateway::auth::Tokens;
use gateway::auth::keys::SigningKey;
use gateway::extract::Json;
use gateway::limits::Limits;
use gateway::problem::{Code, Problem};
use serde::{Deserialize, Serialize};
use service::telemetry::Metrics;
use sqlx::PgPool;

use crate::settings::Serve;
use crate::tables;
use crate::ways::{self, Locks, Way};

/// The door, and what the gateway does around every request.
const EMPTY: &str = "/empty/v1/bookings";
/// The door alone.
const BARE: &str = "/bare";
const BOOK: &str = "/{way}/v1/bookings";

#[derive(Clone)]
struct App {
    tokens: Tokens,
    pool: PgPool,
    locks: Locks,
}

/// A wish for a place, as the gateway takes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewBooking {
    slot_id: SlotId,
    patient_id: PatientId,
}

/// What became of it.
#[derive(Serialize)]
struct Booked {
    id: String,
    status: &'static str,
}

/// Serves until it is told to stop.
pub(crate) async fn run(serve: Serve) -> anyhow::Result<()> {
    let _last_lines = service::telemetry::init(&serve.telemetry, &[])?;
    // Counted as in the gateway, though nobody reads it.
    let _metrics = Metrics::install();
    let pool = tables::connect(&serve.database).await?;
    let key = SigningKey::read(&serve.token_key_file)?;
    let tokens = Tokens::new(&key, &[], Arc::new(SystemClock))?;
    let listener = gateway::server::listen(serve.listen, serve.server.backlog)
        .with_context(|| format!("cannot listen on {}", serve.listen))?;
    let router = Router::new()
        .route(EMPTY, post(async || StatusCode::NO_CONTENT))
        .route(BOOK, post(book))
        .with_state(App { tokens, pool, locks: Locks::default() });
    let limits = Arc::new(Limits::new(&serve.limits));
    let router =
        gateway::routes::around(router, Arc::clone(&limits), [EMPTY, BOOK].map(str::to_owned));
    let router = router.route(BARE, any(async || StatusCode::NO_CONTENT));
    let shutdown = service::shutdown::on_signal();
    tokio::select! {
        () = gateway::server::serve(listener, router, &serve.server, shutdown) => {}
        () = limits.sweep() => {}
    }
    Ok(())
}

async fn book(State(app): State<App>, Path(way): Path<String>, request: Request) -> Response {
    let answer = match Way::named(&way) {
        Some(way) => answer(app, way, request).await,
        None => Err(Code::NotFound.into()),
    };
    match answer {
        Ok(booked) => Json(booked).into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn answer(app: App, way: Way, request: Request) -> Result<Booked, Problem> {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer "));
    let identity = token.and_then(|token| app.tokens.verify(token)).ok_or(Code::Unauthorized)?;
    let Json(NewBooking { slot_id, patient_id }) = Json::from_request(request, &()).await?;
    if !identity.patients.contains(&patient_id) {
        return Err(Code::NotFound.into());
    }
    // A client that leaves must not leave a transaction half-way.
    let booking =
        tokio::spawn(
            async move { ways::take(way, &app.pool, &app.locks, slot_id, patient_id).await },
        );
    match booking.await {
        Ok(Ok(Some(id))) => {
            tracing::info!(booking_id = id, "accepted");
            Ok(Booked { id: id.to_string(), status: "booked" })
        }
        Ok(Ok(None)) => Err(Code::SlotExhausted.into()),
        Ok(Err(error)) => {
            tracing::warn!(%error, "a booking failed");
            Err(Code::LedgerUnavailable.into())
        }
        Err(_) => Err(Code::LedgerUnavailable.into()),
    }
}
