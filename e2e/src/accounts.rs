//! The programs' own accounts: what they may do here is what they may do anywhere, and no more.

use std::path::Path;

use anyhow::Result;
use testkit::{Database, Rabbit, Redis, amqp_programs, ensure_role, unique, with_role};

/// What the programs may do in Redis.
const GATEWAY_RIGHTS: &str = include_str!("../../deploy/redis/gateway.rights");
const WORKER_RIGHTS: &str = include_str!("../../deploy/redis/worker.rights");
const GATEWAY: &str = "slotrush_gateway";
const WORKER: &str = "slotrush_worker";
/// Nobody else reaches the server of a test.
const TEST_PASSWORD: &str = "of-a-test";

/// Starts a Redis that knows the users of [`Accounts::make`].
pub(crate) async fn start_redis(folder: &Path, port: u16) -> Result<Redis> {
    let [gateway, worker] = RedisUser::both(|| TEST_PASSWORD.to_owned()).map(|user| user.line());
    Redis::start_in(folder, port, &[&gateway, &worker]).await
}

/// A user of Redis.
#[derive(Debug)]
pub struct RedisUser {
    name: &'static str,
    rights: &'static str,
    password: String,
}

impl RedisUser {
    /// Names the gateways' and the workers', each with a password of its own.
    pub fn both_secret() -> [Self; 2] {
        Self::both(unique)
    }

    fn both(password: impl Fn() -> String) -> [Self; 2] {
        let rights = [(GATEWAY, GATEWAY_RIGHTS), (WORKER, WORKER_RIGHTS)];
        rights.map(|(name, rights)| Self { name, rights, password: password() })
    }

    /// A line of Redis's settings.
    pub fn line(&self) -> String {
        format!("user {} on >{} {}", self.name, self.password, self.rights.trim_end())
    }

    /// An address, as this user.
    fn at(&self, url: &str) -> Result<String> {
        with_role(url, self.name, &self.password)
    }
}

/// The programs' own accounts: neither owns the tables or the queues, nor administers a server.
#[derive(Debug)]
pub struct Accounts {
    /// The gateways'.
    pub gateway: Account,
    /// The workers'.
    pub worker: Account,
}

/// Addresses with a program's own account, and the name of its role in PostgreSQL.
#[derive(Debug)]
pub struct Account {
    /// The role.
    pub role: String,
    /// PostgreSQL.
    pub database: String,
    /// Redis.
    pub redis: String,
    /// RabbitMQ.
    pub amqp: String,
}

impl Accounts {
    /// Makes them on the servers that tests share, and on a Redis of the test's own.
    pub(crate) async fn make(database: &Database, redis: &Redis) -> Result<Self> {
        let [gateways, workers] = RedisUser::both(|| TEST_PASSWORD.to_owned());
        let account = |(role, database): (String, String), user: &RedisUser, amqp| -> Result<_> {
            Ok(Account { role, database, redis: user.at(&redis.url())?, amqp })
        };
        let (gateway, worker) = amqp_programs(&testkit::amqp_url().await?)?;
        Ok(Self {
            gateway: account(database.role("gateway").await?, &gateways, gateway)?,
            worker: account(database.role("worker").await?, &workers, worker)?,
        })
    }

    /// Makes them on private servers. Roles in PostgreSQL; what they may do is the migration's business.
    /// `users` are those that Redis was started with.
    pub async fn make_private(
        database_url: &str,
        redis_url: &str,
        users: &[RedisUser; 2],
        rabbit: &Rabbit,
    ) -> Result<Self> {
        let account = async |user: &RedisUser, amqp: String| -> Result<Account> {
            let database = ensure_role(database_url, user.name, &unique()).await?;
            Ok(Account { role: user.name.to_owned(), database, redis: user.at(redis_url)?, amqp })
        };
        let [gateways, workers] = users;
        let (gateway, worker) = amqp_programs(&rabbit.url())?;
        Ok(Self {
            gateway: account(gateways, gateway).await?,
            worker: account(workers, worker).await?,
        })
    }
}
