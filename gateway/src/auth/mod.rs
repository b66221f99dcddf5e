//! Who asks: passwords, tokens, and which patients an account acts for.
//!
//! Owns every secret of the program: the key that signs access tokens and the data key that
//! hashes and seals what is personal. Nothing here prints either.
//!
//! Read first: [`token`], then [`seal`].

pub mod admin;
pub mod id_number;
pub mod identity;
pub mod keys;
pub mod login;
pub mod password;
pub mod patients;
mod problem;
pub mod refresh;
pub mod seal;
pub mod token;

use std::path::PathBuf;

pub use identity::{Admin, Identity};
pub use ledger::account::Role;
pub use password::Passwords;
pub use patients::Patients;
pub use seal::Sealer;
pub use token::Tokens;

/// Settings of tokens and sealing (a clap group).
#[derive(Clone, Debug, Default, clap::Args)]
#[group(id = "auth")]
#[command(next_help_heading = "Tokens and sealing")]
pub struct Settings {
    /// File with the key that signs access tokens (Ed25519, PKCS#8 PEM; see `gateway keygen`)
    #[arg(long, env = "SLOTRUSH_TOKEN_KEY_FILE")]
    pub token_key_file: Option<PathBuf>,
    /// Files with keys that signed access tokens before and are still good (PEM, public or
    /// private; separated by commas)
    #[arg(long, env = "SLOTRUSH_TOKEN_OLD_KEY_FILES", value_delimiter = ',')]
    pub token_old_key_files: Vec<PathBuf>,
    /// File with the key that seals personal data (32 bytes in base64; see `gateway keygen`)
    #[arg(long, env = "SLOTRUSH_DATA_KEY_FILE")]
    pub data_key_file: Option<PathBuf>,
}
