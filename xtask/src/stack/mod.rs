//! The whole system on this machine: three servers, gateways and workers.
//!
//! Every process is recorded in `state.json` as soon as it works, and until then dies with us. So
//! whatever happens to `cargo xtask`, the next one finds what runs.
//!
//! Read first: this file, then `servers.rs` and `programs.rs`; the commands are in `commands.rs`.

mod accounts;
pub(crate) mod commands;
mod probe;
mod programs;
mod servers;
mod state;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use testkit::{Server, Signal};

use self::servers::SERVERS;
use self::state::{Part, State, kind_of};
use crate::interrupt::unless_interrupted;
use crate::lock::Lock;

/// A program drains what it has taken on before it ends.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// How a stack is to be.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Build the programs optimised.
    pub(crate) release: bool,
    /// How many gateways at least.
    pub(crate) gateways: usize,
    /// How many workers at least.
    pub(crate) workers: usize,
    /// Take the caller's `SLOTRUSH_` settings, also for servers; else none of them.
    pub(crate) use_settings: bool,
    /// Further settings of the programs; they win.
    pub(crate) environment: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { release: false, gateways: 1, workers: 1, use_settings: true, environment: vec![] }
    }
}

/// A stack that we have to ourselves. It goes on running when this is dropped; see [`Self::stop`].
#[derive(Debug)]
pub(crate) struct Stack {
    folder: PathBuf,
    options: Options,
    state: State,
    /// What this very run started.
    started: Vec<String>,
    _lock: Lock,
}

impl Stack {
    /// Starts what is missing of the stack in this folder. When that fails or is interrupted,
    /// ends what it had started.
    pub(crate) async fn start(folder: &Path, options: Options) -> Result<Self> {
        let mut stack = Self::open(folder, options)?;
        let result = unless_interrupted(stack.bring_up()).await;
        if let Err(error) = result {
            let started = std::mem::take(&mut stack.started);
            stack.stop_parts(&started).await?;
            return Err(error);
        }
        Ok(stack)
    }

    /// Takes hold of the stack in this folder as it is.
    pub(crate) fn open(folder: &Path, mut options: Options) -> Result<Self> {
        let folder = std::path::absolute(folder)?;
        let lock = Lock::take(&folder)?;
        let state = State::read(&folder)?;
        options.release |= state.release && state.parts.values().any(Part::is_running);
        Ok(Self { folder, options, state, started: vec![], _lock: lock })
    }

    /// Are the programs optimised builds?
    pub(crate) fn is_release(&self) -> bool {
        self.options.release
    }

    /// Addresses for patients and admins.
    pub(crate) fn gateway_urls(&self) -> Vec<String> {
        self.state.urls("gateway", |part| Some(part.server.url.clone()))
    }

    /// Where the gateways say how they are.
    pub(crate) fn gateway_admin_urls(&self) -> Vec<String> {
        self.state.urls("gateway", |part| part.admin_url.clone())
    }

    /// Where the workers say how they are.
    pub(crate) fn worker_admin_urls(&self) -> Vec<String> {
        self.state.urls("worker", |part| part.admin_url.clone())
    }

    /// `redis://…`
    pub(crate) fn redis_url(&self) -> String {
        self.server_url("redis")
    }

    /// `amqp://…`
    pub(crate) fn amqp_url(&self) -> String {
        self.server_url("rabbitmq")
    }

    /// `postgres://…`
    pub(crate) fn database_url(&self) -> String {
        self.server_url("postgres")
    }

    /// Where the keys of this stack are.
    pub(crate) fn keys_folder(&self) -> PathBuf {
        self.folder.join("keys")
    }

    /// SIGKILL to a part (`gateway-1`, `worker-1`, `redis`, …), and waits for its end.
    pub(crate) async fn kill(&mut self, name: &str) -> Result<()> {
        let part = self.own_part(name)?;
        if let Some(id) = part.id() {
            id.stop(Signal::Kill, STOP_WITHIN).await;
        }
        Ok(())
    }

    /// Starts a part again on its port and data, ending it first if it still runs.
    pub(crate) async fn restart(&mut self, name: &str) -> Result<()> {
        self.own_part(name)?;
        self.stop_parts(&[name.to_owned()]).await?;
        if SERVERS.iter().any(|(server, _)| *server == name) {
            self.start_servers().await
        } else {
            self.start_programs(&[name.to_owned()]).await
        }
    }

    /// Ends everything that is ours, gracefully: programs first, then servers. Says what it ended.
    pub(crate) async fn stop(&mut self) -> Result<Vec<String>> {
        let all: Vec<String> = self.state.parts.keys().cloned().collect();
        let is_server = |name: &String| SERVERS.iter().any(|(server, _)| server == name);
        let (servers, programs): (Vec<_>, Vec<_>) = all.into_iter().partition(is_server);
        self.stop_parts(&programs).await?;
        self.stop_parts(&servers).await?;
        Ok([programs, servers].concat())
    }

    async fn bring_up(&mut self) -> Result<()> {
        self.forget_the_dead().await?;
        self.take_foreign_servers()?;
        let names = |kind: &str, count: usize| {
            (1..=count).map(|number| format!("{kind}-{number}")).collect::<Vec<_>>()
        };
        let wanted =
            [names("gateway", self.options.gateways), names("worker", self.options.workers)];
        let is_missing = |name: &String| !self.state.parts.contains_key(name);
        let missing: Vec<String> = wanted.concat().into_iter().filter(is_missing).collect();
        if self.has_programs() && self.options.release != self.state.release {
            bail!("this runs with a debug build; `cargo xtask down` first");
        }
        self.state.release = self.options.release;
        self.start_servers().await?;
        if !missing.is_empty() {
            self.build().await?;
            self.prepare().await?;
            self.start_programs(&missing).await?;
        }
        self.state.write(&self.folder)
    }

    /// Parts of which a process has ended on its own are stopped altogether and start anew.
    async fn forget_the_dead(&mut self) -> Result<()> {
        let dead: Vec<String> = self
            .state
            .parts
            .iter()
            .filter(|(_, part)| !part.is_running())
            .map(|(name, _)| name.clone())
            .collect();
        self.stop_parts(&dead).await
    }

    async fn stop_parts(&mut self, names: &[String]) -> Result<()> {
        let mut stopping = tokio::task::JoinSet::new();
        for name in names {
            if let Some(part) = self.state.parts.get(name) {
                let server: Server = part.server.clone();
                stopping.spawn(async move { server.stop(STOP_WITHIN).await });
            }
        }
        stopping.join_all().await;
        for name in names {
            self.state.parts.remove(name);
        }
        self.state.write(&self.folder)
    }

    fn has_programs(&self) -> bool {
        self.state.parts.keys().any(|name| matches!(kind_of(name), "gateway" | "worker"))
    }

    /// A part that is running and ours, or why there is none of this name.
    pub(crate) fn own_part(&self, name: &str) -> Result<&Part> {
        let known = || self.state.parts.keys().cloned().collect::<Vec<_>>().join(", ");
        if self.state.parts.is_empty() {
            bail!("nothing is up; start it with `cargo xtask up`");
        }
        let part = self.state.parts.get(name);
        let part = part.with_context(|| format!("no part {name}; there are: {}", known()))?;
        if part.is_foreign {
            bail!("{name} is not ours to stop: a setting names it");
        }
        Ok(part)
    }

    fn server_url(&self, name: &str) -> String {
        self.state.parts.get(name).map(|part| part.server.url.clone()).unwrap_or_default()
    }

    fn record(&mut self, name: &str, part: Part) -> Result<()> {
        self.started.push(name.to_owned());
        self.state.parts.insert(name.to_owned(), part);
        self.state.write(&self.folder)
    }
}

/// One line about a part that has started.
fn report(name: &str, url: &str) {
    println!("{name:<12} {url}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_is_not_there_is_told_from_a_stack_that_is_not_up() {
        let folder = std::env::temp_dir().join(testkit::unique());
        let mut stack = Stack::open(&folder, Options::default()).expect("opened");
        let error = |stack: &Stack| stack.own_part("bogus").expect_err("none").to_string();
        assert_eq!(error(&stack), "nothing is up; start it with `cargo xtask up`");
        stack.state.parts.insert("redis".to_owned(), Part::foreign("redis://x".to_owned()));
        assert_eq!(error(&stack), "no part bogus; there are: redis");
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
