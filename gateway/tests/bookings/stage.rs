//! One request for every route: what it names exists, and is `patient`'s where it is somebody's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use booking::{Clock, Partition, SystemClock};
use clap::Parser;
use gateway::auth::{Role, Tokens, refresh};
use gateway::settings::Cli;
use ledger::parked::Parked;
use reqwest::Method;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::clinic::{Clinic, Plan};

/// What to ask for.
pub(crate) struct Wanted {
    pub(crate) path: String,
    pub(crate) body: Value,
    /// Path and body of the same wish for a thing that does not exist, where there is one.
    pub(crate) absent: Option<(String, Value)>,
}

/// A clinic with a booking, and a token of each role.
pub(crate) struct Stage {
    clinic: Clinic,
    http: reqwest::Client,
    tokens: BTreeMap<&'static str, String>,
    pub(crate) booking: String,
    hospital: String,
    department: String,
    doctor: String,
    /// For names and dates that are to be new.
    next: AtomicU32,
}

const PASSWORD: &str = "correct horse";
const ABSENT: &str = "9223372036854775807";

impl Stage {
    pub(crate) async fn set() -> Result<Self> {
        let mut plan = Plan::of(&[9], 4);
        plan.has_afternoon = true;
        let clinic = Clinic::open(plan).await?;
        clinic.start_worker(false);
        let signer = Tokens::load(&Cli::try_parse_from(&clinic.cli)?.settings.auth)?;
        let sign =
            |n: usize, role| signer.issue(clinic.patients[n].0, role, &[], SystemClock.now());
        let tokens = BTreeMap::from([
            ("patient", clinic.patients[0].2.clone()),
            ("another patient", clinic.patients[1].2.clone()),
            ("doctor", sign(2, Role::Doctor)?),
            ("admin", sign(3, Role::Admin)?),
        ]);
        let booking = clinic.book(0, clinic.slots[0], "k").await?.id().to_owned();
        let path = format!("/v1/bookings/{booking}?wait=20");
        ensure!(clinic.get(0, &path).await?.status() == (200, "booked"), "it is booked");
        let first = async |path: &str| -> Result<String> {
            let listed = clinic.get(0, path).await?.json;
            Ok(listed["items"][0]["id"].as_str().context("one item")?.to_owned())
        };
        let hospital = first("/v1/hospitals").await?;
        let department = first(&format!("/v1/departments?hospital_id={hospital}")).await?;
        let doctor = first(&format!("/v1/doctors?department_id={department}")).await?;
        let (http, next) = (reqwest::Client::new(), AtomicU32::new(0));
        let stage = Self { clinic, http, tokens, booking, hospital, department, doctor, next };
        let who = json!({ "login": "li.si", "password": PASSWORD });
        stage.made("nobody", "/v1/accounts", who).await?;
        Ok(stage)
    }

    /// Sends it as `role`. The same name for every request, so that two answers can be compared.
    pub(crate) async fn send(
        &self,
        method: &Method,
        wanted: &Wanted,
        role: &str,
    ) -> Result<Answer> {
        let url = format!("http://{}{}", self.clinic.address, wanted.path);
        let mut request = self.http.request(method.clone(), url).header("x-request-id", "same");
        if let Some(token) = self.tokens.get(role) {
            request = request.bearer_auth(token);
        }
        if !wanted.body.is_null() {
            request = request.json(&wanted.body).header("idempotency-key", "access");
        }
        Answer::read(request.send().await?).await
    }

    /// Says what to ask of a route. A new route needs a line here.
    pub(crate) async fn wanted(&self, method: &Method, path: &str) -> Result<Wanted> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let body = match (method.as_str(), path) {
            ("POST", "/v1/accounts") => {
                json!({ "login": format!("somebody-{n}"), "password": PASSWORD })
            }
            ("POST", "/v1/tokens") => json!({ "login": "li.si", "password": PASSWORD }),
            ("POST", "/v1/tokens/refresh" | "/v1/tokens/revoke") => {
                let (token, hash) = refresh::mint()?;
                let account = self.clinic.patients[0].0;
                self.clinic.ledger.start_refresh_family(account, hash, refresh::TTL_S).await?;
                json!({ "refresh_token": token })
            }
            ("POST", "/v1/patients") => person(n),
            ("POST", "/v1/bookings") => return Ok(self.booking()),
            ("POST", "/v1/admin/hospitals") => {
                json!({ "name": format!("No. {n}"), "time_zone": "UTC" })
            }
            ("POST", "/v1/admin/departments") => {
                json!({ "hospital_id": self.hospital, "name": format!("No. {n}") })
            }
            ("POST", "/v1/admin/doctors") => {
                json!({ "department_id": self.department, "name": "Li", "rank": "chief" })
            }
            ("POST", "/v1/admin/sessions") => self.session(n),
            ("POST", "/v1/admin/releases") => self.release(n).await?,
            _ if path.contains("{id}") => return self.by_id(method, path, n).await,
            ("GET", _) => Value::Null,
            other => anyhow::bail!("no request is written for {other:?}"),
        };
        let query = match path {
            "/v1/departments" => format!("?hospital_id={}", self.hospital),
            "/v1/doctors" => format!("?department_id={}", self.department),
            "/v1/sessions" => format!("?doctor_id={}", self.doctor),
            _ => String::new(),
        };
        Ok(Wanted { path: format!("{path}{query}"), body, absent: None })
    }

    async fn by_id(&self, method: &Method, path: &str, n: u32) -> Result<Wanted> {
        let id = match (method.as_str(), path) {
            (_, "/v1/bookings/{id}" | "/v1/bookings/{id}/cancel" | "/v1/bookings/{id}/events") => {
                self.booking.clone()
            }
            ("DELETE", "/v1/patients/{id}") => {
                // The same person each time: an account acts for a few only.
                self.made("patient", "/v1/patients", person(u32::from(u8::MAX))).await?
            }
            ("GET", "/v1/sessions/{id}") => self.clinic.slots[0].session().to_string(),
            (_, path) if path.starts_with("/v1/admin/parked/") => self.parked().await?,
            (_, path) if path.starts_with("/v1/admin/releases/") => self.released(path, n).await?,
            other => anyhow::bail!("no request is written for {other:?}"),
        };
        let absent = Some((path.replace("{id}", ABSENT), Value::Null));
        Ok(Wanted { path: path.replace("{id}", &id), body: Value::Null, absent })
    }

    fn booking(&self) -> Wanted {
        let path = "/v1/bookings".to_owned();
        let (slot, patient) = (self.clinic.slots[1], self.clinic.patients[0].1);
        let absent = json!({ "slot_id": slot, "patient_id": ABSENT });
        let body = json!({ "slot_id": slot, "patient_id": patient });
        Wanted { absent: Some((path.clone(), absent)), path, body }
    }

    fn session(&self, n: u32) -> Value {
        let date = jiff::civil::date(2098, 1, 1).saturating_add(jiff::Span::new().days(n));
        json!({
            "doctor_id": self.doctor, "on_date": date, "period": "morning",
            "slots": [{
                "starts_at": format!("{date}T08:00:00Z"), "ends_at": format!("{date}T09:00:00Z"),
                "capacity": 1,
            }],
        })
    }

    async fn release(&self, n: u32) -> Result<Value> {
        let body = self.session(n);
        let wanted = Wanted { path: "/v1/admin/sessions".to_owned(), body, absent: None };
        let made = self.send(&Method::POST, &wanted, "admin").await?;
        Ok(json!({
            "hospital_id": self.hospital, "name": format!("No. {n}"),
            "opens_at": "2026-01-01T00:00:00Z", "closes_at": "2097-01-01T00:00:00Z",
            "slot_ids": [made.json["slots"][0]["id"]],
        }))
    }

    /// A release in the state that the verb at the end of the path wants.
    async fn released(&self, path: &str, n: u32) -> Result<String> {
        let id = self.made("admin", "/v1/admin/releases", self.release(n).await?).await?;
        let before: &[&str] = match path.rsplit('/').next() {
            Some("pause" | "close") => &["preheat"],
            Some("resume") => &["preheat", "pause"],
            _ => &[],
        };
        for verb in before {
            self.made("admin", &format!("/v1/admin/releases/{id}/{verb}"), Value::Null).await?;
        }
        Ok(id)
    }

    async fn parked(&self) -> Result<String> {
        let unreadable = Parked::Message { entry: None, body: b"?".to_vec() };
        self.clinic.ledger.park(Partition::new(0), "undecodable", "?", &[unreadable]).await?;
        let rows = self.clinic.ledger.parked(None, 1).await?;
        Ok(rows.first().context("a parked message")?.id.to_string())
    }

    /// Posts what works and returns the id of what there is then.
    async fn made(&self, role: &str, path: &str, body: Value) -> Result<String> {
        let wanted = Wanted { path: path.to_owned(), body, absent: None };
        let made = self.send(&Method::POST, &wanted, role).await?;
        ensure!(made.status < 300, "{path}: {made:?}");
        Ok(made.id().to_owned())
    }
}

fn person(n: u32) -> Value {
    json!({ "name": "x", "id_number": format!("E{:08}", 10_000_000 + n) })
}
