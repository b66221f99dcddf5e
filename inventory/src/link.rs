//! One supervised connection of the hot path.
//!
//! A link stands while its connection leads to a primary that answers. Its supervisor connects,
//! probes, and connects again for ever; whoever meets a broken connection takes it down at once,
//! so that the next caller learns [`Error::Unavailable`](crate::Error::Unavailable), which is
//! certain, instead of sending into the void, which is not.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult, Value};
use tokio::sync::{Notify, watch};

use crate::script::load_all;

/// How often a standing connection is probed.
const PROBE_EVERY: Duration = Duration::from_millis(500);
/// The pause before connecting again, drawn anew each time so that programs do not march in step.
const PAUSE_MS: std::ops::RangeInclusive<u64> = 50..=500;

/// A connection that stands.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// To send on. Cheap to clone.
    pub(crate) connection: MultiplexedConnection,
    generation: u64,
}

/// A supervised connection.
#[derive(Debug)]
pub(crate) struct Link {
    standing: watch::Sender<Option<Standing>>,
    broken: Notify,
}

impl Link {
    /// Makes a link that does not stand yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { standing: watch::Sender::new(None), broken: Notify::new() })
    }

    /// Returns the connection, if it stands.
    pub(crate) fn get(&self) -> Option<Standing> {
        self.standing.borrow().clone()
    }

    /// Tells whether a connection stands.
    pub(crate) fn is_up(&self) -> bool {
        self.standing.borrow().is_some()
    }

    /// Takes down a connection that was found broken, unless another one stands by now.
    pub(crate) fn take_down(&self, broken: &Standing) {
        let is_taken = self.standing.send_if_modified(|standing| {
            let is_same = standing.as_ref().is_some_and(|s| s.generation == broken.generation);
            if is_same {
                *standing = None;
            }
            is_same
        });
        if is_taken {
            self.broken.notify_one();
        }
    }

    /// Keeps the link standing, for ever. One task per link runs it.
    pub(crate) async fn supervise(self: Arc<Self>, client: Client, config: AsyncConnectionConfig) {
        let mut is_first_failure = true;
        for generation in 0.. {
            match connect(&client, &config).await {
                Ok(connection) => {
                    tracing::info!("connected to Redis");
                    is_first_failure = true;
                    let standing = Standing { connection, generation };
                    self.standing.send_replace(Some(standing.clone()));
                    self.probe_while_up(standing).await;
                    tracing::warn!("lost the connection to Redis");
                }
                Err(error) if is_first_failure => {
                    is_first_failure = false;
                    tracing::warn!(%error, "can't connect to Redis, trying on");
                }
                Err(_) => {}
            }
            let pause_ms = rand::random_range(PAUSE_MS);
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }

    async fn probe_while_up(&self, mut standing: Standing) {
        loop {
            // Woken early by whoever takes the connection down; a stale wake-up only probes early.
            let _ = tokio::time::timeout(PROBE_EVERY, self.broken.notified()).await;
            if !self.is_up() {
                return;
            }
            if let Err(error) = probe(&mut standing.connection).await {
                tracing::warn!(%error, "Redis failed its probe");
                self.take_down(&standing);
                return;
            }
        }
    }
}

async fn connect(
    client: &Client,
    config: &AsyncConnectionConfig,
) -> RedisResult<MultiplexedConnection> {
    let mut connection = client.get_multiplexed_async_connection_with_config(config).await?;
    probe(&mut connection).await?;
    load_all(&mut connection).await?;
    Ok(connection)
}

/// Asks for a sign of life and the role: a server that loads its data answers ROLE but not PING,
/// a replica the reverse of what is wanted.
async fn probe(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("PING").ignore().cmd("ROLE");
    let (role,): (Vec<Value>,) = pipeline.query_async(connection).await?;
    match role.first() {
        Some(Value::BulkString(word)) if word == b"master" => Ok(()),
        _ => Err((redis::ErrorKind::Client, "not a primary").into()),
    }
}
