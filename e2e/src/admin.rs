//! What an admin does through the API.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use booking::{Clock as _, ReleaseId, SystemClock, UnixMs};
use bytes::Bytes;
use gateway::time_text;
use hyper::Method;
use hyper::header::HeaderValue;
use jiff::tz::TimeZone;
use ledger::release::ReleaseCounts;
use rush::audit::Stillness;
use rush::client::{Client, Reply, Sent};
use rush::settings::Preparation;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::System;

/// Sends JSON and returns the answer. `authorization` is the whole header.
pub async fn send(
    client: &Client,
    method: Method,
    path: &str,
    authorization: Option<&HeaderValue>,
    body: &Value,
) -> Result<Reply> {
    let headers: Vec<_> =
        authorization.map(|value| ("authorization", value.clone())).into_iter().collect();
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    match client.send(method, path, &headers, body).await {
        Sent::Reply(reply) => Ok(reply),
        Sent::NotSent | Sent::Lost => anyhow::bail!("no answer to {path}"),
    }
}

/// Reads a JSON answer of this status.
pub fn expect(reply: &Reply, status: u16) -> Result<Value> {
    let text = String::from_utf8_lossy(&reply.body);
    ensure!(reply.status == status, "{} instead of {status}: {text}", reply.status);
    if reply.body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&reply.body).with_context(|| format!("no JSON: {text}"))
}

/// Logs in and returns the `Authorization` header.
pub async fn log_in(client: &Client, login: &str, password: &str) -> Result<HeaderValue> {
    let who = json!({"login": login, "password": password});
    let reply = send(client, Method::POST, "/v1/tokens", None, &who).await?;
    let tokens = expect(&reply, 201).context("logging in")?;
    let token = tokens["access_token"].as_str().context("a token")?;
    Ok(HeaderValue::from_str(&format!("Bearer {token}"))?)
}

/// What is to be prepared, and by whom.
pub(crate) fn preparation(password: &str, places: u32, slots: u32) -> Preparation {
    Preparation {
        admin_login: ADMIN.to_owned(),
        admin_password: SecretString::from(password),
        places,
        sessions: 1,
        slots_per_session: slots,
        lead_ms: 0,
    }
}

pub(crate) const ADMIN: &str = "e2e-admin";
const HOUR_MS: i64 = 3_600_000;

impl System {
    /// Pauses, resumes or closes the release.
    pub async fn change_release(&self, verb: &str) -> Result<Value> {
        let path = format!("/v1/admin/releases/{}/{verb}", self.plan.release);
        self.administer(Method::POST, &path, &Value::Null, 200).await
    }

    /// Puts the same slots on offer with a new release, from now on.
    pub async fn offer_again(&mut self) -> Result<()> {
        self.plan.release = self.create_release(SystemClock.now()).await?;
        let preheated = self.change_release("preheat").await?;
        ensure!(preheated["status"] == "open", "{preheated}");
        Ok(())
    }

    /// Creates a release of the same slots.
    pub async fn create_release(&self, opens_at: UnixMs) -> Result<ReleaseId> {
        let closed = self.ledger().release(self.plan.release).await?.context("the release")?;
        let slots: Vec<_> = self.plan.offers.iter().map(|offer| offer.slot).collect();
        let body = json!({
            "hospital_id": closed.hospital,
            "name": "What was left",
            "opens_at": time_text(opens_at, &TimeZone::UTC),
            "closes_at": time_text(opens_at.plus_ms(HOUR_MS), &TimeZone::UTC),
            "slot_ids": slots,
        });
        let made = self.administer(Method::POST, "/v1/admin/releases", &body, 201).await?;
        Ok(serde_json::from_value(made["id"].clone())?)
    }

    /// Sends an admin's request; the answer must have this status.
    pub async fn administer(
        &self,
        method: Method,
        path: &str,
        body: &Value,
        status: u16,
    ) -> Result<Value> {
        let client = &self.clients[0];
        let log_in = || log_in(client, ADMIN, self.admin_password.expose_secret());
        let authorization = self.admin.get_or_try_init(log_in).await?;
        let reply = send(client, method, path, Some(authorization), body).await?;
        expect(&reply, status).with_context(|| path.to_owned())
    }

    /// Looks once at what moves.
    pub async fn stillness(&self) -> Stillness {
        self.probe.settle(Duration::ZERO).await
    }

    /// Reads the release's counts from PostgreSQL.
    pub async fn counts(&self) -> Result<ReleaseCounts> {
        let release = self.ledger().release(self.plan.release).await?;
        Ok(release.context("the release")?.counts)
    }
}
