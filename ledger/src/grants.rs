//! What each program may do in the database: `grants.sql`.

use std::str::FromStr;

use sqlx::AssertSqlSafe;

use crate::{Error, Ledger};

const GRANTS: &str = include_str!("grants.sql");

/// The longest name PostgreSQL does not cut.
const NAME_BYTES_MAX: usize = 63;

/// The name of a role: lower-case letters, digits and `_`, so that it needs no quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleName(String);

/// What was given is no name of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to 63 of a–z, 0–9 and _, a letter first")]
pub struct NoRoleName;

impl FromStr for RoleName {
    type Err = NoRoleName;

    fn from_str(text: &str) -> Result<Self, NoRoleName> {
        let is_plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let is_name = text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.len() <= NAME_BYTES_MAX
            && text.bytes().all(is_plain);
        is_name.then(|| Self(text.to_owned())).ok_or(NoRoleName)
    }
}

impl Ledger {
    /// Lets the two roles do what the programs need and nothing else, and everybody else nothing.
    /// The roles exist; whoever calls this owns the tables.
    pub async fn grant(&self, gateway: &RoleName, worker: &RoleName) -> Result<(), Error> {
        let script = GRANTS.replace("{gateway}", &gateway.0).replace("{worker}", &worker.0);
        self.run(move |pool| async move {
            sqlx::raw_sql(AssertSqlSafe(script)).execute(&pool).await?;
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_needs_no_quotes() {
        assert!("slotrush_gateway".parse::<RoleName>().is_ok());
        for bad in ["", "Gateway", "a b", "a;b", "a\"", "1a", "_a", &"a".repeat(64)] {
            assert_eq!(bad.parse::<RoleName>(), Err(NoRoleName), "{bad}");
        }
    }
}
