//! The three servers of a stack: private ones, or someone's own named by a setting.

use std::env;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use testkit::{Postgres, Rabbit, Redis, Server, ensure_database};

use super::accounts::{rabbit_passwords, redis_owner, redis_users};
use super::state::Part;
use super::{Stack, report};
use crate::install::ensure_programs;

/// The name of the database on a private PostgreSQL.
const DATABASE: &str = "slotrush";

/// Name of the part, and the setting that names someone's own.
pub(super) const SERVERS: [(&str, &str); 3] = [
    ("redis", "SLOTRUSH_REDIS_URL"),
    ("rabbitmq", "SLOTRUSH_AMQP_URL"),
    ("postgres", "SLOTRUSH_DATABASE_URL"),
];

impl Stack {
    /// Notes the servers that settings name. An error if the stack runs with others.
    pub(super) fn take_foreign_servers(&mut self) -> Result<()> {
        for (name, setting) in SERVERS {
            let foreign = if self.options.use_settings { setting_of(setting)? } else { None };
            if let Some(part) = self.state.parts.get(name) {
                let running = part.is_foreign.then_some(&part.server.url);
                if running == foreign.as_ref() {
                    continue;
                }
                if self.has_programs() || !part.is_foreign {
                    bail!(
                        "this runs with another {name} than {setting} says now; `cargo xtask down` first"
                    );
                }
                self.state.parts.remove(name);
            }
            if let Some(url) = foreign {
                self.state.parts.insert(name.to_owned(), Part::foreign(url));
            }
        }
        Ok(())
    }

    /// Starts those that are missing, all at once.
    pub(super) async fn start_servers(&mut self) -> Result<()> {
        let missing: Vec<&str> = SERVERS
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| !self.state.parts.contains_key(*name))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        ensure_programs().await?;
        let ports = missing.iter().map(|name| (*name, self.state.port(name))).collect::<Vec<_>>();
        let port = |name| ports.iter().find(|(other, _)| *other == name).map(|(_, port)| *port);
        let folder = self.folder.clone();
        // Each dies if another one fails to start, or we are told to stop: not yet detached.
        let (redis, rabbit, postgres) = tokio::try_join!(
            start(port("redis"), async |port| {
                let users = redis_users(&folder)?;
                let users: Vec<&str> = users.iter().map(String::as_str).collect();
                Redis::start_in(&folder.join("redis"), port, &users).await
            }),
            start(port("rabbitmq"), async |port| {
                let passwords = rabbit_passwords(&folder)?;
                Rabbit::start_with(&folder.join("rabbitmq"), port, passwords).await
            }),
            start(port("postgres"), async |port| start_postgres(&folder, port).await),
        )?;
        if let Some(redis) = redis {
            let url = redis_owner(&self.folder, &redis.url())?;
            self.record_server("redis", Server { url, ..redis.detach() })?;
        }
        if let Some(rabbit) = rabbit {
            self.record_server("rabbitmq", rabbit.detach())?;
        }
        if let Some((postgres, url)) = postgres {
            let server = Server { url, ..postgres.detach() };
            self.record_server("postgres", server)?;
        }
        Ok(())
    }

    fn record_server(&mut self, name: &str, server: Server) -> Result<()> {
        report(name, &server.url);
        self.record(name, Part { server, admin_url: None, is_foreign: false })
    }
}

async fn start<T>(
    port: Option<u16>,
    start: impl AsyncFnOnce(u16) -> Result<T>,
) -> Result<Option<T>> {
    match port {
        Some(port) => start(port).await.map(Some),
        None => Ok(None),
    }
}

async fn start_postgres(folder: &Path, port: u16) -> Result<(Postgres, String)> {
    let postgres = Postgres::start_in(&folder.join("postgres"), port).await?;
    let url = ensure_database(&postgres.url(), DATABASE).await?;
    Ok((postgres, url))
}

/// A setting, given itself or in a file.
fn setting_of(name: &str) -> Result<Option<String>> {
    if let Ok(value) = env::var(name) {
        return Ok(Some(value));
    }
    let Some(file) = env::var_os(format!("{name}_FILE")) else {
        return Ok(None);
    };
    let text = fs::read_to_string(&file).with_context(|| format!("{name}_FILE: cannot read it"))?;
    Ok(Some(text.trim().to_owned()))
}
