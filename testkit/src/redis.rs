//! A private redis-server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::port::free_port;
use crate::process::{Process, write_private};
use crate::process_id::{Server, Signal};
use crate::programs::Programs;

/// What production runs with.
const SETTINGS: &str = include_str!("../../deploy/redis/redis.conf");

const START_TRIES: usize = 5;
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A private redis-server of its own (starts in milliseconds, so every test that needs Redis has one).
/// Killed on drop, with the data of one that has a scratch folder.
#[derive(Debug)]
pub struct Redis {
    /// Before the scratch folder: the process ends before its data goes.
    process: Process,
    port: u16,
    folder: PathBuf,
    scratch: Option<TempDir>,
}

impl Redis {
    /// Starts an empty one in a scratch folder, on a free port of 127.0.0.1, AOF everysec.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// The same with these further config lines.
    pub async fn start_with(config: &[&str]) -> Result<Self> {
        let mut tries = 0;
        loop {
            tries += 1;
            let scratch = TempDir::with_prefix("slotrush-redis-")?;
            let folder = scratch.path().to_path_buf();
            // Another process may take the port between the look and the bind.
            match Self::launch(&folder, free_port(), config, Some(scratch)).await {
                Ok(redis) => return Ok(redis),
                Err(error) if tries == START_TRIES => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Starts one with these further config lines, in `folder`, which stays after its end.
    pub async fn start_in(folder: &Path, port: u16, config: &[&str]) -> Result<Self> {
        Self::launch(folder, port, config, None).await
    }

    /// `redis://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id().pid
    }

    /// SIGKILL, and waits for its end.
    #[expect(clippy::unused_async, reason = "the same shape as the other servers' kill")]
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill();
        Ok(())
    }

    /// Starts it again on the same port and data, ending it first if it still runs.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.stop(READY_WITHIN).await;
        self.process = spawn(&self.folder, self.scratch.as_ref())?;
        ready(&mut self.process, self.port).await
    }

    /// Makes it stand still (SIGSTOP): connections stay open, nothing is answered.
    pub fn pause(&self) {
        self.process.id().signal(Signal::Stop);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.process.id().signal(Signal::Cont);
    }

    /// Lets it, and its data, outlive this process.
    pub fn detach(mut self) -> Server {
        let url = self.url();
        if let Some(scratch) = self.scratch {
            let _ = scratch.keep();
        }
        Server { url, processes: vec![self.process.detach()] }
    }

    async fn launch(
        folder: &Path,
        port: u16,
        config: &[&str],
        scratch: Option<TempDir>,
    ) -> Result<Self> {
        let folder = std::path::absolute(folder)?;
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let own = [
            "bind 127.0.0.1",
            &format!("port {port}"),
            &format!("dir \"{}\"", folder.display()),
            "daemonize no",
        ];
        // Of two lines for one setting the later one counts.
        let lines = [&[SETTINGS.trim_end()], &own[..], config].concat();
        // There may be passwords in it.
        write_private(&folder.join("redis.conf"), &(lines.join("\n") + "\n"))?;
        let mut process = spawn(&folder, scratch.as_ref())?;
        ready(&mut process, port).await?;
        Ok(Self { process, port, folder, scratch })
    }
}

fn spawn(folder: &Path, scratch: Option<&TempDir>) -> Result<Process> {
    let mut command = Command::new(Programs::redis_server()?);
    command.arg(folder.join("redis.conf")).current_dir(folder);
    Process::spawn("redis-server", &mut command, Signal::Term, &folder.join("redis.log"))?
        .guarded(scratch.map(TempDir::path).as_slice())
}

async fn ready(process: &mut Process, port: u16) -> Result<()> {
    let pid = process.id().pid;
    process.ready(READY_WITHIN, || answers(port, pid)).await
}

/// Does *this* server answer there, done loading? Another one may have won the port.
async fn answers(port: u16, pid: u32) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.write_all(b"INFO server\r\nPING\r\nQUIT\r\n").await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer.contains(&format!("process_id:{pid}\r")) && answer.contains("+PONG"))
    };
    matches!(tokio::time::timeout(Duration::from_secs(1), ask).await, Ok(Some(true)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process_id::ProcessId;

    #[tokio::test]
    async fn redis_comes_back_on_its_port_after_a_kill() {
        let mut redis = Redis::start().await.expect("starts");
        let (url, pid) = (redis.url(), redis.pid());
        redis.kill().await.expect("dies");
        assert_eq!(ProcessId::of(pid), None);
        redis.restart().await.expect("restarts");
        assert_eq!(redis.url(), url);
        assert!(answers(redis.port(), redis.pid()).await);
    }

    #[tokio::test]
    async fn redis_leaves_neither_process_nor_data() {
        let redis = Redis::start().await.expect("starts");
        let (pid, folder) = (redis.pid(), redis.folder.clone());
        drop(redis);
        assert_eq!(ProcessId::of(pid), None);
        assert!(!folder.exists());
    }
}
