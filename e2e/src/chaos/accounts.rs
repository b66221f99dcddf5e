//! The programs' own accounts: what they may do here is what they may do anywhere, and no more.

use anyhow::Result;
use testkit::{ensure_role, unique, with_role};

use crate::system::Accounts;

/// What a program may do in Redis.
const REDIS_RIGHTS: &str = include_str!("../../../deploy/redis/program.rights");

/// A user of Redis.
#[derive(Debug)]
pub(super) struct RedisUser {
    name: &'static str,
    password: String,
}

impl RedisUser {
    /// Names one, with a password of its own.
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, password: unique() }
    }

    /// A line of Redis's settings.
    pub(super) fn line(&self) -> String {
        format!("user {} on >{} {}", self.name, self.password, REDIS_RIGHTS.trim_end())
    }

    /// An address, as this user.
    pub(super) fn at(&self, url: &str) -> Result<String> {
        with_role(url, self.name, &self.password)
    }
}

/// Makes the roles in PostgreSQL; what they may do is the migration's business.
pub(super) async fn database_roles(database_url: &str) -> Result<Accounts> {
    let role = async |name: &str| -> Result<(String, String)> {
        Ok((name.to_owned(), ensure_role(database_url, name, &unique()).await?))
    };
    Ok(Accounts { gateway: role("chaos_gateway").await?, worker: role("chaos_worker").await? })
}
