//! The programs' own accounts: what they may do here is what they may do anywhere, and no more.

use anyhow::Result;
use testkit::{Rabbit, amqp_programs, ensure_role, unique, with_role};

use crate::accounts::{Account, Accounts, REDIS_GATEWAY_RIGHTS, REDIS_WORKER_RIGHTS};

/// A user of Redis.
#[derive(Debug)]
pub(super) struct RedisUser {
    name: &'static str,
    rights: &'static str,
    password: String,
}

impl RedisUser {
    /// Names the gateways' and the workers', each with a password of its own.
    pub(super) fn both() -> [Self; 2] {
        [("chaos_gateway", REDIS_GATEWAY_RIGHTS), ("chaos_worker", REDIS_WORKER_RIGHTS)]
            .map(|(name, rights)| Self { name, rights, password: unique() })
    }

    /// A line of Redis's settings.
    pub(super) fn line(&self) -> String {
        format!("user {} on >{} {}", self.name, self.password, self.rights.trim_end())
    }

    /// An address, as this user.
    pub(super) fn at(&self, url: &str) -> Result<String> {
        with_role(url, self.name, &self.password)
    }
}

/// Makes the roles in PostgreSQL; what they may do is the migration's business. `users` are those of
/// Redis: of the gateways, of the workers.
pub(super) async fn make(
    database_url: &str,
    redis_url: &str,
    users: &[RedisUser; 2],
    rabbit: &Rabbit,
) -> Result<Accounts> {
    let account = async |role: &str, user: &RedisUser, amqp: String| -> Result<Account> {
        let database = ensure_role(database_url, role, &unique()).await?;
        Ok(Account { role: role.to_owned(), database, redis: user.at(redis_url)?, amqp })
    };
    let [gateways, workers] = users;
    let (gateway, worker) = amqp_programs(&rabbit.url())?;
    Ok(Accounts {
        gateway: account("chaos_gateway", gateways, gateway).await?,
        worker: account("chaos_worker", workers, worker).await?,
    })
}
