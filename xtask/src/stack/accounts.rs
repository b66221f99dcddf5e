//! The programs' own accounts on private servers: a role each in PostgreSQL, a user each in Redis
//! and in RabbitMQ. Neither program is the superuser, nor the owner of the tables or the queues.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use testkit::{RabbitPasswords, ensure_role, unique, with_role, write_private};

use super::Stack;

pub(super) const GATEWAY_ROLE: &str = "slotrush_gateway";
pub(super) const WORKER_ROLE: &str = "slotrush_worker";
/// Who may do everything in Redis.
const REDIS_OWNER: &str = "slotrush_owner";

/// What the programs may do in Redis.
const GATEWAY_RIGHTS: &str = include_str!("../../../deploy/redis/gateway.rights");
const WORKER_RIGHTS: &str = include_str!("../../../deploy/redis/worker.rights");
/// What anybody may: see that it is there.
const REDIS_STRANGER: &str = "user default on nopass resetkeys resetchannels -@all +ping +info";

impl Stack {
    /// Makes the roles, with random passwords that only the folder of the stack knows. On someone's
    /// own PostgreSQL nothing is made, and `false` returned.
    pub(super) async fn make_accounts(&self) -> Result<bool> {
        if !self.is_private("postgres") {
            return Ok(false);
        }
        for role in [GATEWAY_ROLE, WORKER_ROLE] {
            // Programs that run know the one of before.
            let password = lasting_password(&postgres_file(&self.folder, role))?;
            ensure_role(&self.database_url(), role, &password).await?;
        }
        Ok(true)
    }

    /// Gives a program the addresses with its own accounts, where there are such.
    pub(super) fn log_in_as(&self, program: &mut Command, role: &str) -> Result<()> {
        if self.is_private("postgres") {
            let password = lasting_password(&postgres_file(&self.folder, role))?;
            let url = with_role(&self.database_url(), role, &password)?;
            program.env("SLOTRUSH_DATABASE_URL", url);
        }
        if self.is_private("redis") {
            let password = lasting_password(&redis_file(&self.folder, role))?;
            program.env("SLOTRUSH_REDIS_URL", with_role(&self.redis_url(), role, &password)?);
        }
        if self.is_private("rabbitmq") {
            let password = lasting_password(&rabbit_file(&self.folder, role))?;
            program.env("SLOTRUSH_AMQP_URL", with_role(&self.amqp_url(), role, &password)?);
        }
        Ok(())
    }

    fn is_private(&self, server: &str) -> bool {
        self.state.parts.get(server).is_some_and(|part| !part.is_foreign)
    }
}

/// The users of Redis, as lines of its settings.
pub(super) fn redis_users(folder: &Path) -> Result<Vec<String>> {
    let user = |name: &str, rights: &str| -> Result<String> {
        let password = lasting_password(&redis_file(folder, name))?;
        Ok(format!("user {name} on >{password} {}", rights.trim_end()))
    };
    Ok(vec![
        REDIS_STRANGER.to_owned(),
        user(REDIS_OWNER, "~* &* +@all")?,
        user(GATEWAY_ROLE, GATEWAY_RIGHTS)?,
        user(WORKER_ROLE, WORKER_RIGHTS)?,
    ])
}

/// The passwords of the programs in RabbitMQ.
pub(super) fn rabbit_passwords(folder: &Path) -> Result<RabbitPasswords> {
    Ok(RabbitPasswords {
        gateway: lasting_password(&rabbit_file(folder, GATEWAY_ROLE))?,
        worker: lasting_password(&rabbit_file(folder, WORKER_ROLE))?,
    })
}

/// The address of Redis as its owner.
pub(super) fn redis_owner(folder: &Path, url: &str) -> Result<String> {
    with_role(url, REDIS_OWNER, &lasting_password(&redis_file(folder, REDIS_OWNER))?)
}

/// Made at the first call, read at every later one.
fn lasting_password(file: &Path) -> Result<String> {
    if !file.exists() {
        // 22 random letters and digits: 113 bits.
        write_private(file, &format!("{}{}", unique(), unique()))?;
    }
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn postgres_file(folder: &Path, role: &str) -> PathBuf {
    folder.join(format!("postgres-{role}.password"))
}

fn rabbit_file(folder: &Path, role: &str) -> PathBuf {
    folder.join(format!("rabbit-{role}.password"))
}

fn redis_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("redis-{name}.password"))
}
