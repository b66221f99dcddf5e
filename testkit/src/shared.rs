//! The test servers that many tests share: PostgreSQL and RabbitMQ take too long to start for each.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::OnceCell;

use crate::port::free_port;
use crate::postgres::Postgres;
use crate::process::write_private;
use crate::process_id::Server;
use crate::rabbit::Rabbit;

const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Where the shared test server is: `SLOTRUSH_TEST_POSTGRES_URL` (a superuser's URL); without it, a
/// private one under `.slotrush/test/` is started once, reused by every later test run, and left
/// running until [`stop_shared`] (`cargo xtask down`).
pub async fn postgres_url() -> Result<String> {
    static URL: OnceCell<String> = OnceCell::const_new();
    let start = || async {
        shared("postgres", "SLOTRUSH_TEST_POSTGRES_URL", async |folder: PathBuf| {
            Ok(Postgres::start_in(&folder, free_port()).await?.detach())
        })
        .await
    };
    URL.get_or_try_init(start).await.cloned()
}

/// The shared RabbitMQ, found or started as [`postgres_url`] does, or `SLOTRUSH_TEST_AMQP_URL`.
/// Isolate by queue prefix, see [`crate::unique`].
pub async fn amqp_url() -> Result<String> {
    static URL: OnceCell<String> = OnceCell::const_new();
    let start = || async {
        shared("rabbit", "SLOTRUSH_TEST_AMQP_URL", async |folder: PathBuf| {
            Ok(Rabbit::start_in(&folder, free_port()).await?.detach())
        })
        .await
    };
    URL.get_or_try_init(start).await.cloned()
}

/// Ends the shared test servers of this workspace and deletes their data. Says which it ended.
pub async fn stop_shared() -> Result<Vec<String>> {
    let folder = test_folder();
    let mut ended = Vec::new();
    if !folder.exists() {
        return Ok(ended);
    }
    for name in ["postgres", "rabbit"] {
        let _lock = lock(&folder.join(format!("{name}.lock"))).await?;
        if let Some(server) = read(&folder.join(format!("{name}.json"))) {
            ended.extend(server.processes.iter().map(|process| process.name.clone()));
            server.stop(STOP_WITHIN).await;
        }
        let _ = fs::remove_file(folder.join(format!("{name}.json")));
        Postgres::delete_elsewhere(&folder.join(name));
        let _ = fs::remove_dir_all(folder.join(name));
    }
    Ok(ended)
}

async fn shared(
    name: &str,
    variable: &str,
    start: impl AsyncFnOnce(PathBuf) -> Result<Server>,
) -> Result<String> {
    if let Ok(url) = env::var(variable) {
        return Ok(url);
    }
    let folder = test_folder();
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    // Every test may be a process of its own: the first one starts the server, the rest wait.
    let _lock = lock(&folder.join(format!("{name}.lock"))).await?;
    let record = folder.join(format!("{name}.json"));
    if let Some(server) = read(&record) {
        if server.is_alive() {
            return Ok(server.url);
        }
        // Half of it may be left: RabbitMQ's port mapper without the node.
        server.stop(STOP_WITHIN).await;
    }
    let server = start(folder.join(name)).await?;
    write_private(&record, &serde_json::to_string_pretty(&server)?)?;
    Ok(server.url)
}

fn read(record: &Path) -> Option<Server> {
    serde_json::from_str(&fs::read_to_string(record).ok()?).ok()
}

/// Holds the lock until the file is dropped.
async fn lock(file: &Path) -> Result<File> {
    let opened = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    tokio::task::spawn_blocking(move || opened.lock().map(|()| opened))
        .await?
        .with_context(|| format!("cannot lock {}", file.display()))
}

fn test_folder() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).join(".slotrush/test")
}
