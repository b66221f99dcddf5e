//! Access tokens of the crowd, signed here: twenty thousand log-ins would be another load test.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use hyper::header::HeaderValue;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use crate::prepare::Member;

/// How long the tokens are good, s.
const TTL_S: u64 = 900;

/// Signs tokens as the gateway would.
pub struct Minter {
    key: EncodingKey,
}

impl std::fmt::Debug for Minter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Minter").finish_non_exhaustive()
    }
}

impl Minter {
    /// Reads the gateway's token key.
    ///
    /// # Errors
    /// If it is not an Ed25519 key in PKCS#8 PEM.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let pem = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let key = EncodingKey::from_ed_pem(&pem).context("the token key is malformed")?;
        Ok(Self { key })
    }

    /// Signs a token for an account and its patient; returns the `Authorization` header.
    ///
    /// # Errors
    /// If signing fails.
    pub fn mint(&self, member: Member) -> anyhow::Result<HeaderValue> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let claims = json!({
            "sub": member.account,
            "patients": [member.patient],
            "role": "patient",
            "iat": now,
            "exp": now + TTL_S,
        });
        let header = Header::new(Algorithm::EdDSA);
        let token = jsonwebtoken::encode(&header, &claims, &self.key).context("signing a token")?;
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}
