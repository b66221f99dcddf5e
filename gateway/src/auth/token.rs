//! Access tokens: JWTs signed with Ed25519, good for fifteen minutes.
//!
//! A key is chosen by `kid` from a short local list and by nothing else; the algorithm is not the
//! token's to choose. A token that verified is remembered by a keyed hash until it ends, so that a
//! patient's polls don't cost a signature check each. Times are judged by the gateway's clock,
//! also for what is remembered.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use booking::{AccountId, Clock, PatientId, SystemClock, UnixMs};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header,
};
use serde::{Deserialize, Serialize};

use super::keys::{self, SigningKey};
use super::{Identity, Role, Settings};
use crate::recent::Recent;

/// How long an access token is good, in seconds.
pub const TTL_S: i64 = 15 * 60;

/// How far the clocks of gateways may be apart, in seconds.
const LEEWAY_S: i64 = 5;

/// The longest token looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 2048;

/// How many verified tokens are remembered at most; of those that came last, half as many.
const REMEMBERED_MAX: usize = 400_000;

const ISSUER: &str = "slotrush";
const AUDIENCE: &str = "slotrush";

/// Signs and verifies access tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens(Arc<Shared>);

struct Shared {
    kid: String,
    signing: EncodingKey,
    verifying: Vec<(String, DecodingKey)>,
    validation: Validation,
    remembered: Recent<u128, Remembered>,
    memory_key: hmac::Key,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("kid", &self.0.kid).finish_non_exhaustive()
    }
}

/// What a token says.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: AccountId,
    exp: i64,
    nbf: i64,
    iat: i64,
    jti: String,
    role: Role,
    patients: Vec<PatientId>,
}

#[derive(Clone)]
struct Remembered {
    identity: Identity,
    nbf: i64,
    exp: i64,
}

impl Remembered {
    /// Also refuses what would be good for longer than any token of ours is.
    fn is_good_at(&self, now_s: i64) -> bool {
        let left_s = self.exp.saturating_sub(now_s);
        let is_begun = self.nbf.saturating_sub(LEEWAY_S) <= now_s;
        is_begun && (1 - LEEWAY_S..=TTL_S + LEEWAY_S).contains(&left_s)
    }
}

/// The token could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("an access token could not be signed")]
pub struct Unsigned(#[source] anyhow::Error);

impl Tokens {
    /// Reads the keys the settings name.
    pub fn load(settings: &Settings) -> anyhow::Result<Self> {
        let key = keys::named("SLOTRUSH_TOKEN_KEY_FILE", settings.token_key_file.as_deref())
            .and_then(|file| file.read(SigningKey::read))?;
        let old = settings.token_old_key_files.iter().map(|path| {
            keys::named("SLOTRUSH_TOKEN_OLD_KEY_FILES", Some(path))?.read(keys::read_public)
        });
        let old = old.collect::<Result<Vec<_>, _>>()?;
        Self::new(&key, &old, Arc::new(SystemClock))
    }

    /// Signs with `key`; verifies what it or one of the `old` public keys signed.
    pub fn new(key: &SigningKey, old: &[[u8; 32]], clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let verifying = std::iter::once(&key.public)
            .chain(old)
            .map(|public| (kid_of(public), DecodingKey::from_ed_der(public)))
            .collect();
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        // The library knows only the machine's clock. `Remembered::is_good_at` judges both times,
        // and `Claims` requires them as numbers.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        Ok(Self(Arc::new(Shared {
            kid: kid_of(&key.public),
            signing: EncodingKey::from_ed_der(&key.private),
            verifying,
            validation,
            remembered: Recent::new(
                std::time::Duration::from_secs(TTL_S.unsigned_abs()),
                REMEMBERED_MAX,
            ),
            memory_key: hmac::Key::new(hmac::HMAC_SHA256, &keys::random::<32>()?),
            clock,
        })))
    }

    /// Signs an access token.
    pub fn issue(
        &self,
        account: AccountId,
        role: Role,
        patients: &[PatientId],
        now: UnixMs,
    ) -> Result<String, Unsigned> {
        let now_s = now.0.div_euclid(1000);
        let jti = keys::random::<16>().map_err(Unsigned)?;
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: account,
            exp: now_s + TTL_S,
            nbf: now_s,
            iat: now_s,
            jti: URL_SAFE_NO_PAD.encode(jti),
            role,
            patients: patients.to_vec(),
        };
        let header = Header { kid: Some(self.0.kid.clone()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &claims, &self.0.signing)
            .map_err(|error| Unsigned(error.into()))
    }

    /// Returns who the token speaks for; `None` if it is not good.
    pub fn verify(&self, token: &str) -> Option<Identity> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let now_s = self.0.clock.now().0.div_euclid(1000);
        let name = self.name_of(token);
        if let Some(remembered) = self.0.remembered.get(&name) {
            return remembered.is_good_at(now_s).then_some(remembered.identity);
        }
        let checked = self.check(token)?;
        if !checked.is_good_at(now_s) {
            return None;
        }
        let identity = checked.identity.clone();
        self.0.remembered.put(name, checked);
        Some(identity)
    }

    fn check(&self, token: &str) -> Option<Remembered> {
        let kid = decode_header(token).ok()?.kid?;
        let (_, key) = self.0.verifying.iter().find(|(known, _)| *known == kid)?;
        let claims = decode::<Claims>(token, key, &self.0.validation).ok()?.claims;
        Some(Remembered {
            identity: Identity {
                account: claims.sub,
                role: claims.role,
                patients: claims.patients.into_iter().collect(),
            },
            nbf: claims.nbf,
            exp: claims.exp,
        })
    }

    /// A name nobody outside can aim at: the key is this process's own.
    fn name_of(&self, token: &str) -> u128 {
        let tag = hmac::sign(&self.0.memory_key, token.as_bytes());
        let mut short = [0; 16];
        short.copy_from_slice(&tag.as_ref()[..16]);
        u128::from_be_bytes(short)
    }
}

/// Names a public key by its digest.
fn kid_of(public: &[u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(&digest(&SHA256, public).as_ref()[..12])
}

#[cfg(test)]
mod tests;
