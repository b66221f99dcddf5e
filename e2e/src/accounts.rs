//! The accounts under which the programs of a [`System`](crate::System) run.

use std::path::Path;

use anyhow::Result;
use testkit::{Database, Redis, amqp_programs, with_role};

/// What a program may do in Redis, and its user there.
const REDIS_RIGHTS: &str = include_str!("../../deploy/redis/program.rights");
const REDIS_USER: &str = "slotrush_program";
/// Nobody else reaches the server of a test.
const REDIS_PASSWORD: &str = "of-a-test";

/// Starts a Redis that knows that user.
pub(crate) async fn start_redis(folder: &Path, port: u16) -> Result<Redis> {
    let user = format!("user {REDIS_USER} on >{REDIS_PASSWORD} {}", REDIS_RIGHTS.trim_end());
    Redis::start_in(folder, port, &[&user]).await
}

/// The programs' own accounts: neither owns the tables or the queues, nor administers a server.
pub(crate) struct Accounts {
    pub(crate) gateway: Account,
    pub(crate) worker: Account,
}

/// Addresses with a program's own account, and the name of its role in PostgreSQL.
pub(crate) struct Account {
    pub(crate) role: String,
    pub(crate) database: String,
    pub(crate) redis: String,
    pub(crate) amqp: String,
}

impl Accounts {
    pub(crate) async fn make(database: &Database, redis: &Redis) -> Result<Self> {
        let redis = with_role(&redis.url(), REDIS_USER, REDIS_PASSWORD)?;
        let account = |(role, database): (String, String), amqp| {
            let redis = redis.clone();
            Account { role, database, redis, amqp }
        };
        let (gateway, worker) = amqp_programs(&testkit::amqp_url().await?)?;
        Ok(Self {
            gateway: account(database.role("gateway").await?, gateway),
            worker: account(database.role("worker").await?, worker),
        })
    }
}
