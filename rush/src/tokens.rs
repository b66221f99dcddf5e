//! Access tokens of the crowd, signed here: twenty thousand log-ins would be another load test.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use booking::{Clock as _, SystemClock};
use gateway::auth::keys::SigningKey;
use gateway::auth::{Role, Tokens};
use hyper::header::HeaderValue;

use crate::prepare::Member;

/// How old a new token is: a gateway whose clock is behind must not take it for one of the future.
const BACKDATED_MS: i64 = 30_000;

/// Signs tokens with the gateway's own code and key.
#[derive(Debug)]
pub struct Minter(Tokens);

impl Minter {
    /// Reads the gateway's token key.
    ///
    /// # Errors
    /// If it can't be read or is no token key.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let key = SigningKey::read(path).with_context(|| format!("reading {}", path.display()))?;
        Ok(Self(Tokens::new(&key, &[], Arc::new(SystemClock))?))
    }

    /// Signs a token for an account and its patient; returns the `Authorization` header.
    ///
    /// # Errors
    /// If signing fails.
    pub fn mint(&self, member: Member) -> anyhow::Result<HeaderValue> {
        let patients = [member.patient];
        let issued_at = SystemClock.now().plus_ms(-BACKDATED_MS);
        let token = self.0.issue(member.account, Role::Patient, &patients, issued_at)?;
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}
