//! Who asks: tokens, and which patients an account acts for.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use booking::{AccountId, PatientId};

use crate::app::App;
use crate::problem::{Code, Problem};

/// What an account may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Books for its patients.
    Patient,
    /// Sees its sessions.
    Doctor,
    /// Runs the hospital.
    Admin,
}

/// Who sent a request, proven by its access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The account.
    pub account: AccountId,
    /// What it may do.
    pub role: Role,
    /// The patients the token names. The account may have got others since.
    pub patients: Vec<PatientId>,
}

impl FromRequestParts<App> for Identity {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let header = parts.headers.get(axum::http::header::AUTHORIZATION);
        let token = header.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        token.and_then(|token| app.tokens.verify(token)).ok_or_else(|| Code::Unauthorized.into())
    }
}

/// Settings of tokens and sealing (a clap group).
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Settings {}

/// Signs and verifies access tokens.
#[derive(Clone, Debug, Default)]
pub struct Tokens {}

impl Tokens {
    /// Reads the keys the settings name.
    pub fn load(_settings: &Settings) -> anyhow::Result<Self> {
        Ok(Self {})
    }

    /// Returns who the token speaks for; `None` if it is not good.
    pub fn verify(&self, _token: &str) -> Option<Identity> {
        None
    }
}

/// Which patients accounts act for, cached.
#[derive(Clone, Debug)]
pub struct Patients {
    _ledger: ledger::Ledger,
}

impl Patients {
    /// Starts with an empty cache.
    pub fn new(ledger: ledger::Ledger) -> Self {
        Self { _ledger: ledger }
    }

    /// Tells whether `account` acts for `patient`.
    pub async fn is_of(
        &self,
        _account: AccountId,
        _patient: PatientId,
    ) -> Result<bool, ledger::Error> {
        Ok(false)
    }
}
