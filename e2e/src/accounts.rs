//! The accounts under which the programs of a [`System`](crate::System) run.

use std::path::Path;

use anyhow::Result;
use testkit::{Database, Redis, amqp_programs, with_role};

/// What the programs may do in Redis, and their users there.
pub(crate) const REDIS_GATEWAY_RIGHTS: &str = include_str!("../../deploy/redis/gateway.rights");
pub(crate) const REDIS_WORKER_RIGHTS: &str = include_str!("../../deploy/redis/worker.rights");
const REDIS_GATEWAY: &str = "slotrush_gateway";
const REDIS_WORKER: &str = "slotrush_worker";
/// Nobody else reaches the server of a test.
const REDIS_PASSWORD: &str = "of-a-test";

/// Starts a Redis that knows these users.
pub(crate) async fn start_redis(folder: &Path, port: u16) -> Result<Redis> {
    let user =
        |name, rights: &str| format!("user {name} on >{REDIS_PASSWORD} {}", rights.trim_end());
    let gateway = user(REDIS_GATEWAY, REDIS_GATEWAY_RIGHTS);
    let worker = user(REDIS_WORKER, REDIS_WORKER_RIGHTS);
    Redis::start_in(folder, port, &[&gateway, &worker]).await
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
        let account = |(role, database): (String, String), user, amqp| -> Result<Account> {
            let redis = with_role(&redis.url(), user, REDIS_PASSWORD)?;
            Ok(Account { role, database, redis, amqp })
        };
        let (gateway, worker) = amqp_programs(&testkit::amqp_url().await?)?;
        Ok(Self {
            gateway: account(database.role("gateway").await?, REDIS_GATEWAY, gateway)?,
            worker: account(database.role("worker").await?, REDIS_WORKER, worker)?,
        })
    }
}
