//! All connections: links for what is hot, a pool for what is cold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_redis::{Manager, Pool, Runtime};
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisError, Value};
use secrecy::{ExposeSecret, SecretString};
use tokio::task::AbortHandle;

use crate::error::{Error, is_link_broken};
use crate::link::Link;
use crate::script::Call;

/// How long making a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The least time that a cold call may take: some of them read a lot.
const COLD_TIMEOUT_MS_MIN: u64 = 2_000;
/// Connections of the pool.
const COLD_CONNECTIONS_MAX: usize = 4;
/// Calls waiting for the socket of one link; the driver's own 50 is a bottleneck.
const PIPELINE_BUFFER: usize = 1_024;

/// How to reach Redis.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `redis://…`
    pub url: SecretString,
    /// Multiplexed connections of the hot path.
    pub connections: usize,
    /// How long an answer may take before its outcome is unknown.
    pub response_timeout_ms: u64,
}

/// The connections. Their supervisors end when it is dropped.
pub(crate) struct Links {
    hot: Vec<Arc<Link>>,
    next: AtomicUsize,
    cold: Pool,
    supervisors: Vec<AbortHandle>,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let up = self.hot.iter().filter(|link| link.is_up()).count();
        f.debug_struct("Links")
            .field("hot", &self.hot.len())
            .field("up", &up)
            .finish_non_exhaustive()
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.supervisors.iter().for_each(AbortHandle::abort);
    }
}

impl Links {
    /// Starts the supervisors. Must be called inside the runtime.
    pub(crate) fn start(settings: &Settings) -> Result<Self, Error> {
        // The driver's own text may quote the address, and with it the password.
        let malformed = || Error::Refused("malformed address".to_owned());
        let address =
            settings.url.expose_secret().into_connection_info().map_err(|_| malformed())?;
        let address = address.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = Client::open(address.clone()).map_err(|_| malformed())?;

        let config = |timeout_ms| {
            AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT_TIMEOUT))
                .set_response_timeout(Some(Duration::from_millis(timeout_ms)))
                .set_pipeline_buffer_size(PIPELINE_BUFFER)
        };
        let cold_timeout_ms = settings.response_timeout_ms.max(COLD_TIMEOUT_MS_MIN);
        let manager =
            Manager::new_with_config(address, config(cold_timeout_ms)).map_err(|_| malformed())?;
        let cold = Pool::builder(manager)
            .max_size(COLD_CONNECTIONS_MAX)
            .wait_timeout(Some(Duration::from_millis(cold_timeout_ms)))
            .create_timeout(Some(CONNECT_TIMEOUT))
            .recycle_timeout(Some(CONNECT_TIMEOUT))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|_| Error::Refused("no pool".to_owned()))?;

        let hot: Vec<_> = (0..settings.connections.max(1)).map(|_| Link::new()).collect();
        let supervisors = hot
            .iter()
            .map(|link| {
                let link = Arc::clone(link);
                let config = config(settings.response_timeout_ms);
                tokio::spawn(link.supervise(client.clone(), config)).abort_handle()
            })
            .collect();
        Ok(Self { hot, next: AtomicUsize::new(0), cold, supervisors })
    }

    /// Tells whether any link stands.
    pub(crate) fn is_up(&self) -> bool {
        self.hot.iter().any(|link| link.is_up())
    }

    /// Runs a call on the next link that stands.
    pub(crate) async fn call_hot(&self, call: &Call) -> Result<Value, Error> {
        self.with_link(async |mut connection| call.run(&mut connection).await).await
    }

    /// Runs a plain command on the next link that stands.
    pub(crate) async fn query_hot<T: redis::FromRedisValue>(
        &self,
        command: &redis::Cmd,
    ) -> Result<T, Error> {
        self.with_link(async |mut connection| command.query_async(&mut connection).await).await
    }

    /// Runs a call on a pooled connection.
    pub(crate) async fn call_cold(&self, call: &Call) -> Result<Value, Error> {
        let mut connection = self.pooled().await?;
        Ok(call.run(&mut connection).await?)
    }

    /// Takes a connection from the pool.
    pub(crate) async fn pooled(&self) -> Result<deadpool_redis::Connection, Error> {
        self.cold.get().await.map_err(|_| Error::Unavailable)
    }

    async fn with_link<T>(
        &self,
        send: impl AsyncFnOnce(redis::aio::MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, Error> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let standing = (0..self.hot.len()).find_map(|i| {
            let link = &self.hot[first.wrapping_add(i) % self.hot.len()];
            link.get().map(|standing| (link, standing))
        });
        let (link, standing) = standing.ok_or(Error::Unavailable)?;
        send(standing.connection.clone()).await.map_err(|error| {
            if is_link_broken(&error) {
                link.take_down(&standing);
            }
            Error::from(error)
        })
    }
}
