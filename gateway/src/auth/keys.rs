//! Key files: reading them, and making them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use service::settings::Invalid;

/// The file of the key that signs access tokens.
pub const TOKEN_KEY: &str = "token-key.pem";

/// The file of the key that seals personal data.
pub const DATA_KEY: &str = "data-key";

/// What stands before the 32 bytes of an Ed25519 public key in its DER form.
const ED25519_PUBLIC_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A key pair for access tokens.
pub struct SigningKey {
    /// PKCS#8, DER.
    pub private: Vec<u8>,
    /// The 32 bytes of the public key.
    pub public: [u8; 32],
}

impl SigningKey {
    /// Makes a new one.
    pub fn generate() -> anyhow::Result<Self> {
        let document = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new())
            .map_err(|_| anyhow::anyhow!("no Ed25519 key could be made"))?;
        Self::from_der(document.as_ref().to_vec())
    }

    /// Reads a PEM file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let (label, der) = read_pem(path)?;
        ensure!(label == "PRIVATE KEY", "{} holds no private key", path.display());
        Self::from_der(der).with_context(|| format!("{}", path.display()))
    }

    fn from_der(private: Vec<u8>) -> anyhow::Result<Self> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&private)
            .map_err(|_| anyhow::anyhow!("not an Ed25519 key in PKCS#8"))?;
        let public = pair.public_key().as_ref().try_into().context("an Ed25519 public key")?;
        Ok(Self { private, public })
    }
}

/// A key file and the setting that names it.
#[derive(Clone, Copy, Debug)]
pub struct KeyFile<'a> {
    setting: &'static str,
    path: &'a Path,
}

/// Takes the key file of a setting; refuses one that is not set.
pub fn named<'a>(setting: &'static str, path: Option<&'a Path>) -> Result<KeyFile<'a>, Invalid> {
    let path =
        path.ok_or_else(|| Invalid::new(setting, "not set; `gateway keygen` makes a key"))?;
    Ok(KeyFile { setting, path })
}

impl KeyFile<'_> {
    /// Reads the key with `read`; whatever is wrong is said of the setting.
    pub fn read<T>(self, read: impl FnOnce(&Path) -> anyhow::Result<T>) -> Result<T, Invalid> {
        read(self.path).map_err(|error| Invalid::new(self.setting, format!("{error:#}")))
    }
}

/// Reads the public key of a PEM file that holds it or its private key.
pub fn read_public(path: &Path) -> anyhow::Result<[u8; 32]> {
    let (label, der) = read_pem(path)?;
    match label.as_str() {
        "PRIVATE KEY" => Ok(SigningKey::from_der(der)?.public),
        "PUBLIC KEY" => der
            .strip_prefix(&ED25519_PUBLIC_PREFIX)
            .and_then(|raw| raw.try_into().ok())
            .with_context(|| format!("{} holds no Ed25519 key", path.display())),
        _ => bail!("{} holds no key", path.display()),
    }
}

/// Reads the data key.
pub fn read_data_key(path: &Path) -> anyhow::Result<[u8; 32]> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let bytes = STANDARD.decode(text.trim()).ok();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .with_context(|| format!("{} is not 32 bytes in base64", path.display()))
}

/// Writes a new token key and a new data key into `dir`. Refuses to overwrite either.
pub fn generate(dir: &Path) -> anyhow::Result<()> {
    for name in [TOKEN_KEY, DATA_KEY] {
        ensure!(!dir.join(name).exists(), "{} is there already", dir.join(name).display());
    }
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    write_new(&dir.join(TOKEN_KEY), &pem("PRIVATE KEY", &SigningKey::generate()?.private))?;
    write_new(&dir.join(DATA_KEY), &format!("{}\n", STANDARD.encode(random::<32>()?)))
}

/// Draws random bytes fit for secrets.
pub fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow::anyhow!("no randomness"))?;
    Ok(bytes)
}

fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    // `create_new`: what another process wrote in between is not overwritten either.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("making {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(())
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> =
        (0..body.len()).step_by(64).map(|at| &body[at..body.len().min(at + 64)]).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Returns the label and the content of the one block of a PEM file.
fn read_pem(path: &Path) -> anyhow::Result<(String, Vec<u8>)> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    parse_pem(&text).with_context(|| format!("{} is not a PEM file", path.display()))
}

fn parse_pem(text: &str) -> Option<(String, Vec<u8>)> {
    let (label, rest) = text.trim().strip_prefix("-----BEGIN ")?.split_once("-----")?;
    let body = rest.strip_suffix(&format!("-----END {label}-----"))?;
    let body: String = body.split_whitespace().collect();
    Some((label.to_owned(), STANDARD.decode(body).ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn made_keys_read_back_and_are_never_overwritten() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        generate(dir.path()).expect("keys are made");
        let key = SigningKey::read(&dir.path().join(TOKEN_KEY)).expect("the token key reads");
        assert_eq!(read_public(&dir.path().join(TOKEN_KEY)).expect("its public half"), key.public);
        let data_key = read_data_key(&dir.path().join(DATA_KEY)).expect("the data key reads");
        assert_ne!(data_key, [0; 32]);
        for name in [TOKEN_KEY, DATA_KEY] {
            let mode = fs::metadata(dir.path().join(name)).expect("it is there").permissions();
            assert_eq!(mode.mode() & 0o777, 0o600, "{name}");
        }
        assert!(generate(dir.path()).is_err());
        assert_eq!(read_data_key(&dir.path().join(DATA_KEY)).expect("unchanged"), data_key);
    }

    #[test]
    fn a_public_key_file_is_enough_for_an_old_key() {
        let dir = tempfile::tempdir().expect("a scratch folder");
        let key = SigningKey::generate().expect("a key");
        let der = [&ED25519_PUBLIC_PREFIX[..], &key.public].concat();
        let path = dir.path().join("old.pem");
        fs::write(&path, pem("PUBLIC KEY", &der)).expect("written");
        assert_eq!(read_public(&path).expect("reads"), key.public);
        fs::write(&path, "-----BEGIN X-----").expect("written");
        assert!(read_public(&path).is_err());
    }
}
