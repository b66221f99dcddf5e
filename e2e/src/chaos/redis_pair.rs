//! Redis as two nodes, one the primary and the other its replica, over a link that can be cut.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::{Proxy, Redis, eventually, free_port};

use crate::SOON;
use crate::reach::{redis_command, redis_info};

/// Replication begins at once instead of waiting for further replicas.
const CONFIG: &str = "repl-diskless-sync-delay 0";

/// Two nodes. Which of them the programs see is decided elsewhere, by redirecting their proxies.
#[derive(Debug)]
pub(super) struct RedisPair {
    nodes: [Redis; 2],
    folders: [PathBuf; 2],
    primary: usize,
    /// The way from the replica to the primary.
    link: Proxy,
}

impl RedisPair {
    /// Starts both; returns when the replica follows. Before any ledger is opened: a lone primary
    /// changes its term when its first replica comes. `users` are lines of both nodes' settings; who
    /// names no user may do everything.
    pub(super) async fn start(folder: &Path, users: &[String]) -> Result<Self> {
        let folders = [folder.join("redis-a"), folder.join("redis-b")];
        let config: Vec<&str> = users.iter().map(String::as_str).chain([CONFIG]).collect();
        let one = Redis::start_in(&folders[0], free_port(), &config).await?;
        let two = Redis::start_in(&folders[1], free_port(), &config).await?;
        let link = Proxy::start(&one.url()).await?;
        let pair = Self { nodes: [one, two], folders, primary: 0, link };
        pair.follow().await?;
        Ok(pair)
    }

    /// Returns the primary's address.
    pub(super) fn url(&self) -> String {
        self.primary().url()
    }

    pub(super) fn primary(&self) -> &Redis {
        &self.nodes[self.primary]
    }

    /// Sends the primary a command that is answered with OK.
    pub(super) async fn command(&self, command: &str) -> Result<()> {
        command_ok(self.primary(), command).await
    }

    pub(super) async fn kill(&mut self) -> Result<()> {
        self.nodes[self.primary].kill().await
    }

    pub(super) async fn restart(&mut self) -> Result<()> {
        self.nodes[self.primary].restart().await
    }

    /// Deletes what the killed primary has on disk.
    pub(super) fn forget(&self) -> Result<()> {
        Ok(std::fs::remove_dir_all(self.folders[self.primary].join("appendonlydir"))?)
    }

    /// From now on the replica misses what is written.
    pub(super) fn detach(&self) {
        self.link.cut();
    }

    /// Makes the replica the primary; the old one goes on as it was, alive or not.
    pub(super) async fn promote(&mut self) -> Result<()> {
        self.primary = 1 - self.primary;
        self.command("REPLICAOF NO ONE").await
    }

    /// Makes the other node a replica of the primary, starting it if it is dead; returns when it follows.
    pub(super) async fn reunite(&mut self) -> Result<()> {
        let other = 1 - self.primary;
        self.nodes[other].resume();
        if redis_command(self.nodes[other].port(), "PING").await.is_err() {
            self.nodes[other].restart().await?;
        }
        self.link.redirect(&self.url());
        self.link.cut();
        self.link.heal();
        self.follow().await
    }

    async fn follow(&self) -> Result<()> {
        let replica = &self.nodes[1 - self.primary];
        command_ok(replica, &format!("REPLICAOF 127.0.0.1 {}", self.link.port())).await?;
        eventually("a replica that follows", SOON, || async {
            let info = redis_info(replica.port(), "replication").await.ok()?;
            info.contains("master_link_status:up").then_some(())
        })
        .await
    }

    /// Waits until the replica has everything that was written before this call.
    pub(super) async fn catch_up(&self) -> Result<()> {
        let written = offset(self.primary()).await?;
        let replica = &self.nodes[1 - self.primary];
        eventually("a replica that has caught up", Duration::from_secs(10), || async {
            (offset(replica).await.ok()? >= written).then_some(())
        })
        .await
    }
}

async fn command_ok(node: &Redis, command: &str) -> Result<()> {
    let answer = redis_command(node.port(), command).await?;
    ensure!(answer.starts_with("+OK"), "{command}: {answer}");
    Ok(())
}

/// How much of the replication stream a node has.
async fn offset(node: &Redis) -> Result<u64> {
    let info = redis_info(node.port(), "replication").await?;
    let line = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.parse().ok());
    let found = line("slave_repl_offset:").or_else(|| line("master_repl_offset:"));
    found.ok_or_else(|| anyhow::anyhow!("no replication offset"))
}
