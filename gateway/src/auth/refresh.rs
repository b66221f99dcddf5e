//! Refresh tokens: 256 random bits, of which only a SHA-256 is kept. A fast hash is enough for
//! what can't be guessed.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::keys;

/// How long a refresh token is good, in seconds: 30 days.
pub const TTL_S: i32 = 30 * 24 * 3600;

/// Makes a refresh token. Returns the token and its hash.
pub fn mint() -> anyhow::Result<(String, [u8; 32])> {
    let token = URL_SAFE_NO_PAD.encode(keys::random::<32>()?);
    let hash = hash_bytes(token.as_bytes());
    Ok((token, hash))
}

/// Hashes what a client sent as a refresh token; `None` if it can't be one.
pub fn hash(token: &str) -> Option<[u8; 32]> {
    let decoded = URL_SAFE_NO_PAD.decode(token).ok()?;
    (decoded.len() == 32).then(|| hash_bytes(token.as_bytes()))
}

fn hash_bytes(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_by_its_hash_and_no_two_are_alike() {
        let (token, hash_kept) = mint().expect("a token");
        assert_eq!(hash(&token), Some(hash_kept));
        assert_ne!(mint().expect("a token").0, token);
        assert_eq!(hash("short"), None);
    }
}
