//! The usual way to book: one transaction that locks the slot's row, looks, inserts, counts, commits.
//!
//! Owns: that transaction, and tables of its own for it. Everything around it is the gateway's, its
//! allocator, its accept loop, its tokens, its parsing, its log, so that a comparison with the pipeline
//! compares the ways to book and nothing else.
//!
//! Must never know: the pipeline. It is not part of the product and never deployed.
//!
//! Invariant: as many rows as the slot counts, never more than it holds. It has no idempotency keys and no
//! limits by patient: it does less than the pipeline, and so is flattered by the comparison.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use booking::{PatientId, SlotId, SystemClock};
use gateway::auth::Tokens;
use gateway::auth::keys::SigningKey;
use gateway::extract::Json;
use gateway::problem::{Code, Problem};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, raw_sql};

/// Books directly into a PostgreSQL of its own, for comparison with the pipeline
#[derive(Debug, clap::Parser)]
#[command(name = "direct", version)]
pub struct Settings {
    /// Address to listen on
    #[arg(long, env = "DIRECT_LISTEN", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// An empty database of its own; its tables are made anew at every start
    #[arg(long, env = "DIRECT_DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// Connections to it at most
    #[arg(long, env = "DIRECT_DATABASE_CONNECTIONS_MAX", default_value_t = 16)]
    database_connections_max: u32,
    /// The key that signs the patients' tokens
    #[arg(long, env = "SLOTRUSH_TOKEN_KEY_FILE")]
    token_key_file: std::path::PathBuf,
    /// The door.
    #[command(flatten)]
    server: gateway::server::Settings,
    /// Its log.
    #[command(flatten)]
    telemetry: service::telemetry::Settings,
}

const TABLES: &str = include_str!("../tables.sql");

#[derive(Clone)]
struct App {
    tokens: Tokens,
    pool: PgPool,
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
///
/// # Errors
/// If a setting is wrong, or PostgreSQL can't be reached at the start.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    service::telemetry::init(&settings.telemetry, &[])?;
    let pool = PgPoolOptions::new()
        .max_connections(settings.database_connections_max)
        .connect(&settings.database_url)
        .await
        .context("cannot reach PostgreSQL")?;
    raw_sql(TABLES).execute(&pool).await?;
    let key = SigningKey::read(&settings.token_key_file)?;
    let tokens = Tokens::new(&key, &[], Arc::new(SystemClock))?;
    let listener = gateway::server::listen(settings.listen, settings.server.backlog)?;
    let router = Router::new().route("/v1/bookings", post(book)).with_state(App { tokens, pool });
    let shutdown = service::shutdown::on_signal();
    gateway::server::serve(listener, router, &settings.server, shutdown).await;
    Ok(())
}

async fn book(State(app): State<App>, request: Request) -> Response {
    match answer(&app, request).await {
        Ok(booked) => Json(booked).into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn answer(app: &App, request: Request) -> Result<Booked, Problem> {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer "));
    let identity = token.and_then(|token| app.tokens.verify(token)).ok_or(Code::Unauthorized)?;
    let Json(NewBooking { slot_id, patient_id }) = Json::from_request(request, &()).await?;
    if !identity.patients.contains(&patient_id) {
        return Err(Code::NotFound.into());
    }
    let pool = app.pool.clone();
    // A client that leaves must not leave a transaction half-way.
    let booking = tokio::spawn(async move { take(&pool, slot_id, patient_id).await });
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

async fn take(pool: &PgPool, slot: SlotId, patient: PatientId) -> sqlx::Result<Option<i64>> {
    let mut transaction = pool.begin().await?;
    let free: Option<i32> =
        sqlx::query_scalar("SELECT capacity - booked FROM slot WHERE id = $1 FOR UPDATE")
            .bind(slot.get())
            .fetch_optional(&mut *transaction)
            .await?;
    if free.unwrap_or(0) < 1 {
        return Ok(None);
    }
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO appointment (slot_id, patient_id) VALUES ($1, $2) RETURNING id",
    )
    .bind(slot.get())
    .bind(patient.get())
    .fetch_one(&mut *transaction)
    .await?;
    sqlx::query("UPDATE slot SET booked = booked + 1 WHERE id = $1")
        .bind(slot.get())
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(Some(id))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn no_setting_has_the_name_of_another() {
        super::Settings::command().debug_assert();
    }
}
