//! Private servers, a fresh database, queue prefix and Redis per test, a cut network, `eventually()`.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

/// A private redis-server of its own (starts in milliseconds, so every test that needs Redis has one).
/// Killed, and its data deleted, on drop.
#[derive(Debug)]
pub struct Redis {}
impl Redis {
    /// Starts an empty one in a scratch folder, on a free port of 127.0.0.1, AOF everysec.
    pub async fn start() -> anyhow::Result<Self> { unimplemented!() }
    /// Starts one with these further config lines, in `folder`.
    pub async fn start_in(folder: &Path, port: u16, config: &[&str]) -> anyhow::Result<Self> { unimplemented!() }
    /// `redis://127.0.0.1:port`
    pub fn url(&self) -> String { unimplemented!() }
    /// Its port.
    pub fn port(&self) -> u16 { unimplemented!() }
    /// Its process.
    pub fn pid(&self) -> u32 { unimplemented!() }
    /// SIGKILL, and waits for its end.
    pub async fn kill(&mut self) -> anyhow::Result<()> { unimplemented!() }
    /// Starts it again on the same port and data.
    pub async fn restart(&mut self) -> anyhow::Result<()> { unimplemented!() }
}

/// A database of its own, dropped on drop (best effort).
#[derive(Debug)]
pub struct Database {}
impl Database {
    /// Creates an empty database on the shared test server.
    pub async fn create() -> anyhow::Result<Self> { unimplemented!() }
    /// Creates an empty database on this server (superuser URL).
    pub async fn create_on(server_url: &str) -> anyhow::Result<Self> { unimplemented!() }
    /// `postgres://…`
    pub fn url(&self) -> String { unimplemented!() }
}

/// Where the shared test servers are: `SLOTRUSH_TEST_POSTGRES_URL`, `SLOTRUSH_TEST_AMQP_URL`;
/// without them, private ones are started once per machine user and folder, and reused (see `shared`).
pub async fn postgres_url() -> anyhow::Result<String> { unimplemented!() }
/// The shared RabbitMQ; isolate by queue prefix, see [`unique`].
pub async fn amqp_url() -> anyhow::Result<String> { unimplemented!() }
/// A short name nobody else uses: `t` + random.
pub fn unique() -> String { unimplemented!() }
/// A free TCP port of 127.0.0.1.
pub fn free_port() -> u16 { unimplemented!() }
/// Asks `probe` again and again (every 10 ms) until it gives a value; fails with `what` after `within`.
pub async fn eventually<T, F, Fut>(what: &str, within: Duration, probe: F) -> anyhow::Result<T>
where F: FnMut() -> Fut, Fut: Future<Output = Option<T>> { unimplemented!() }
