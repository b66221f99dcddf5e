//! Personal data at rest: found by keyed hash, kept encrypted.
//!
//! Two keys are derived from the data key, one for hashes, one for sealing. A sealed value is a
//! version byte, a random 96-bit nonce, and AES-256-GCM over the text with the column's name as
//! associated data, so that a value moved to another column does not open.

use std::fmt;
use std::sync::Arc;

use anyhow::Context;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{hkdf, hmac};

use super::{Settings, keys};

const VERSION: u8 = 1;

/// Where a personal value is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// The log-in name of an account.
    Login,
    /// The real-name id number of a patient.
    IdNumber,
    /// The name an account gave a patient.
    PatientName,
}

impl Column {
    /// Returns the name that binds a value to its column. Part of the stored data: never changes.
    const fn name(self) -> &'static str {
        match self {
            Self::Login => "account.login",
            Self::IdNumber => "patient.id_number",
            Self::PatientName => "account_patient.name",
        }
    }
}

/// The value was not sealed for this column with this key, or was tampered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sealed value does not open")]
pub struct Broken;

/// Hashes and seals personal data. Cheap to clone.
#[derive(Clone)]
pub struct Sealer(Arc<DerivedKeys>);

struct DerivedKeys {
    hash: hmac::Key,
    seal: RandomizedNonceKey,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl Sealer {
    /// Reads the data key the settings name.
    pub fn load(settings: &Settings) -> anyhow::Result<Self> {
        let file = keys::named("SLOTRUSH_DATA_KEY_FILE", settings.data_key_file.as_deref())?;
        Self::new(&file.read(keys::read_data_key)?)
    }

    /// Derives the keys from the data key.
    pub fn new(data_key: &[u8; 32]) -> anyhow::Result<Self> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"slotrush data key").extract(data_key);
        let hash = derive(&root, b"hash v1").context("deriving the hash key")?;
        let seal = derive(&root, b"seal v1").context("deriving the seal key")?;
        Ok(Self(Arc::new(DerivedKeys {
            hash: hmac::Key::new(hmac::HMAC_SHA256, &hash),
            seal: RandomizedNonceKey::new(&AES_256_GCM, &seal)
                .map_err(|_| anyhow::anyhow!("no AES-256 key"))?,
        })))
    }

    /// Hashes a value so that it can be found but not read.
    pub fn hash(&self, column: Column, text: &str) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.0.hash);
        context.update(column.name().as_bytes());
        context.update(&[0]);
        context.update(text.as_bytes());
        context.sign().as_ref().to_vec()
    }

    /// Encrypts a value.
    pub fn seal(&self, column: Column, text: &str) -> Result<Vec<u8>, Broken> {
        let mut body = text.as_bytes().to_vec();
        let aad = Aad::from(column.name().as_bytes());
        let nonce = self.0.seal.seal_in_place_append_tag(aad, &mut body).map_err(|_| Broken)?;
        Ok([&[VERSION][..], nonce.as_ref(), &body].concat())
    }

    /// Decrypts a value.
    pub fn open(&self, column: Column, sealed: &[u8]) -> Result<String, Broken> {
        let [VERSION, rest @ ..] = sealed else { return Err(Broken) };
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or(Broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Broken)?;
        let mut body = body.to_vec();
        let aad = Aad::from(column.name().as_bytes());
        let text = self.0.seal.open_in_place(nonce, aad, &mut body).map_err(|_| Broken)?;
        String::from_utf8(text.to_vec()).map_err(|_| Broken)
    }
}

fn derive(root: &hkdf::Prk, label: &[u8]) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    root.expand(&[label], hkdf::HKDF_SHA256).ok()?.fill(&mut key).ok()?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer() -> Sealer {
        Sealer::new(&[7; 32]).expect("a sealer")
    }

    #[test]
    fn a_sealed_value_opens_in_its_own_column_only() {
        let sealed = sealer().seal(Column::PatientName, "张三").expect("seals");
        assert_eq!(sealer().open(Column::PatientName, &sealed).expect("opens"), "张三");
        assert_eq!(sealer().open(Column::Login, &sealed), Err(Broken));
        let other = Sealer::new(&[8; 32]).expect("a sealer");
        assert_eq!(other.open(Column::PatientName, &sealed), Err(Broken));
    }

    #[test]
    fn a_value_with_any_byte_changed_does_not_open() {
        let sealed = sealer().seal(Column::Login, "li").expect("seals");
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert_eq!(sealer().open(Column::Login, &bad), Err(Broken), "byte {at}");
            assert_eq!(sealer().open(Column::Login, &sealed[..at]), Err(Broken), "{at} bytes");
        }
    }

    #[test]
    fn the_same_text_seals_differently_and_hashes_the_same() {
        let seal = || sealer().seal(Column::Login, "li").expect("seals");
        assert_ne!(seal(), seal());
        assert_eq!(sealer().hash(Column::Login, "li"), sealer().hash(Column::Login, "li"));
        assert_ne!(sealer().hash(Column::Login, "li"), sealer().hash(Column::IdNumber, "li"));
    }

    #[test]
    fn nothing_of_the_keys_is_printed() {
        assert_eq!(format!("{:?}", sealer()), "Sealer { .. }");
    }
}
