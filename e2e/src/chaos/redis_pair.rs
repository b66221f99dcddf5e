//! Redis as two nodes, one the primary and the other its replica, over a link that can be cut, so that
//! it can be told what a failover lost.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use booking::PartitionCount;
use inventory::{Inspection, Inventory};
use secrecy::SecretString;
use testkit::{Proxy, Redis, eventually, free_port};

use crate::SOON;
use crate::reach::{redis_command, redis_info};

/// Replication begins at once instead of waiting for further replicas.
const CONFIG: &str = "repl-diskless-sync-delay 0";

/// What the replica lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lack {
    /// Of the replication stream.
    pub(super) bytes: u64,
    /// Places taken that it does not know of.
    pub(super) holds: u64,
}

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

    /// Tells what the replica lacks of what the primary has; the primary must be alive.
    pub(super) async fn lack(&self, partitions: PartitionCount) -> Result<Lack> {
        let replica = &self.nodes[1 - self.primary];
        // The replica is cut off and stands still, so what it lacks only grows meanwhile.
        let (kept, had) = (ledgers(replica, partitions).await?, offset(replica).await?);
        let (lost, has) =
            (ledgers(self.primary(), partitions).await?, offset(self.primary()).await?);
        let holds = lost.iter().zip(&kept).map(|(lost, kept)| missing(lost, kept)).sum();
        Ok(Lack { bytes: has.saturating_sub(had), holds })
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

/// Looks at every partition of a node.
async fn ledgers(node: &Redis, partitions: PartitionCount) -> Result<Vec<Inspection>> {
    let url = SecretString::from(node.url());
    let settings = inventory::Settings { url, connections: 1, response_timeout_ms: 1_000 };
    let inventory = Inventory::start(&settings)?;
    let mut all = Vec::new();
    for partition in partitions.all() {
        let looked = eventually("a look at a ledger", SOON, async || {
            inventory.inspect(partition).await.ok()
        });
        all.push(looked.await?);
    }
    Ok(all)
}

/// Counts the holds of a ledger that the other one, an older copy of it, does not have.
fn missing(lost: &Inspection, kept: &Inspection) -> u64 {
    let Some(lost) = &lost.ledger else { return 0 };
    let same = kept.ledger.as_ref().filter(|kept| kept.nonce == lost.nonce);
    lost.held.saturating_sub(same.map_or(0, |kept| kept.held))
}

/// How much of the replication stream a node has.
async fn offset(node: &Redis) -> Result<u64> {
    let info = redis_info(node.port(), "replication").await?;
    let line = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.parse().ok());
    let found = line("slave_repl_offset:").or_else(|| line("master_repl_offset:"));
    found.ok_or_else(|| anyhow::anyhow!("no replication offset"))
}

#[cfg(test)]
mod tests {
    use booking::{Epoch, Nonce, Term};
    use inventory::LedgerHead;

    use super::*;

    fn seen(nonce: &str, held: u64) -> Inspection {
        let term = Term { run_id: "r".into(), replid: "i".into() };
        let (epoch, nonce) = (Epoch(1), Nonce(nonce.into()));
        let ledger = LedgerHead { epoch, term: term.clone(), nonce, open: true, held, settled: 0 };
        Inspection { ledger: Some(ledger), term, outbox_len: 0 }
    }

    #[test]
    fn holds_are_missing_of_the_same_ledger_and_all_of_one_the_replica_never_saw() {
        assert_eq!(missing(&seen("a", 7), &seen("a", 5)), 2);
        assert_eq!(missing(&seen("a", 7), &seen("a", 7)), 0);
        assert_eq!(missing(&seen("b", 3), &seen("a", 5)), 3);
        assert_eq!(missing(&seen("b", 3), &Inspection { ledger: None, ..seen("a", 0) }), 3);
        assert_eq!(missing(&Inspection { ledger: None, ..seen("a", 0) }, &seen("a", 5)), 0);
    }
}
