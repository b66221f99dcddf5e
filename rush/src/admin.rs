//! The admin's side of the API, as far as preparing a release needs it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use booking::{DepartmentId, DoctorId, HospitalId, ReleaseId, SlotId};
use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderValue;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{Client, Sent};
use crate::settings::Preparation;

/// How often a request that met a busy gateway is sent again.
const TRIES: u32 = 10;

/// An admin who has logged in.
#[derive(Debug)]
pub struct Admin<'a> {
    client: &'a Client,
    authorization: HeaderValue,
}

#[derive(Deserialize)]
struct Created<I> {
    id: I,
}

/// A session as created.
#[derive(Debug, Deserialize)]
pub struct CreatedSession {
    /// Its slots, by ordinal.
    pub slots: Vec<CreatedSlot>,
}

/// A slot as created.
#[derive(Debug, Deserialize)]
pub struct CreatedSlot {
    /// Its id.
    pub id: SlotId,
}

/// A release as the API shows it.
#[derive(Debug, Deserialize)]
pub struct Release {
    /// `planned`, `preheated`, `open`, `paused` or `closed`.
    pub status: String,
    /// Its counts.
    pub counts: Counts,
}

/// Live counts of a release.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Counts {
    /// Places there are.
    pub capacity: i64,
    /// What Redis may still sell.
    #[serde(default)]
    pub left: Option<i64>,
}

impl<'a> Admin<'a> {
    /// Logs in.
    ///
    /// # Errors
    /// If the gateway does not take the login.
    pub async fn log_in(client: &'a Client, who: &Preparation) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Tokens {
            access_token: String,
        }
        let body =
            json!({"login": who.admin_login, "password": who.admin_password.expose_secret()});
        let reply = request(client, Method::POST, "/v1/tokens", &[], Some(&body)).await;
        let tokens: Tokens = reply.context("logging in as the admin")?;
        let authorization = HeaderValue::from_str(&format!("Bearer {}", tokens.access_token))?;
        Ok(Self { client, authorization })
    }

    /// Creates a hospital where one patient may hold one live booking.
    ///
    /// # Errors
    /// If the gateway refuses, as for all calls here.
    pub async fn create_hospital(&self, name: &str) -> anyhow::Result<HospitalId> {
        let limits = json!({"per_day_max": 1, "per_department_day_max": 1, "per_week_max": 1});
        let body = json!({"name": name, "time_zone": "Asia/Shanghai", "limits": limits});
        self.create("hospitals", &body).await
    }

    /// Creates a department.
    ///
    /// # Errors
    /// See [`Admin::create_hospital`].
    pub async fn create_department(
        &self,
        hospital: HospitalId,
        name: &str,
    ) -> anyhow::Result<DepartmentId> {
        self.create("departments", &json!({"hospital_id": hospital, "name": name})).await
    }

    /// Creates a doctor.
    ///
    /// # Errors
    /// See [`Admin::create_hospital`].
    pub async fn create_doctor(
        &self,
        department: DepartmentId,
        name: &str,
    ) -> anyhow::Result<DoctorId> {
        self.create("doctors", &json!({"department_id": department, "name": name})).await
    }

    /// Creates a session with its slots.
    ///
    /// # Errors
    /// See [`Admin::create_hospital`].
    pub async fn create_session(&self, body: &Value) -> anyhow::Result<CreatedSession> {
        self.post("sessions", body).await.context("creating a session")
    }

    /// Creates a release.
    ///
    /// # Errors
    /// See [`Admin::create_hospital`].
    pub async fn create_release(&self, body: &Value) -> anyhow::Result<ReleaseId> {
        self.create("releases", body).await
    }

    /// Sets the release's places aside for sale.
    ///
    /// # Errors
    /// See [`Admin::create_hospital`].
    pub async fn preheat(&self, release: ReleaseId) -> anyhow::Result<()> {
        let path = format!("releases/{release}/preheat");
        let _release: Release = self.post(&path, &json!({})).await.context("preheating")?;
        Ok(())
    }

    /// Reads a release.
    ///
    /// # Errors
    /// See [`Admin::create_hospital`].
    pub async fn release(&self, release: ReleaseId) -> anyhow::Result<Release> {
        let path = format!("/v1/admin/releases/{release}");
        let headers = [("authorization", self.authorization.clone())];
        request(self.client, Method::GET, &path, &headers, None).await.context("reading a release")
    }

    async fn create<I: for<'de> Deserialize<'de>>(
        &self,
        what: &str,
        body: &Value,
    ) -> anyhow::Result<I> {
        let created: Created<I> =
            self.post(what, body).await.with_context(|| format!("creating one of {what}"))?;
        Ok(created.id)
    }

    async fn post<T: for<'de> Deserialize<'de>>(
        &self,
        what: &str,
        body: &Value,
    ) -> anyhow::Result<T> {
        let headers = [("authorization", self.authorization.clone())];
        let path = format!("/v1/admin/{what}");
        request(self.client, Method::POST, &path, &headers, Some(body)).await
    }
}

/// Sends one request and reads its JSON; waits as told by a busy gateway.
async fn request<T: for<'de> Deserialize<'de>>(
    client: &Client,
    method: Method,
    path: &str,
    headers: &[(&'static str, HeaderValue)],
    body: Option<&Value>,
) -> anyhow::Result<T> {
    let body = body.map(Value::to_string).unwrap_or_default();
    for _ in 0..TRIES {
        let sent = client.send(method.clone(), path, headers, Bytes::from(body.clone())).await;
        let Sent::Reply(reply) = sent else { bail!("no answer from the gateway to {path}") };
        match reply.status {
            200..=299 => {
                return serde_json::from_slice(&reply.body)
                    .with_context(|| format!("unexpected answer to {path}"));
            }
            429 | 503 => {
                let seconds = reply.retry_after_s.unwrap_or(1);
                tokio::time::sleep(Duration::from_secs(seconds)).await;
            }
            status => bail!("{path}: {status} {}", String::from_utf8_lossy(&reply.body)),
        }
    }
    bail!("{path}: the gateway stayed busy")
}
