//! Who may ask while PostgreSQL is silent: nobody but one probe.
//!
//! Everybody who waits for a connection makes one, and gives it up when time is up. A server that
//! stands still collects them all, hundreds in half a minute, and must look at each before it comes
//! to one that somebody still waits for; where its queue is full, further ones are not even taken.
//! So, once it is known to be silent, callers are told at once, and a single connection at a time is
//! tried until one is made.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};

/// How long the probe waits for its connection. Long, because each one given up is left to the server;
/// not longer, because a connection that got lost in the network is asked for again by the next only.
const PROBE_MAX: Duration = Duration::from_secs(2);
/// How long after a failed probe the next one comes.
const PROBE_AGAIN: Duration = Duration::from_millis(100);

/// Open while PostgreSQL answers, shut while it is silent.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    is_shut: AtomicBool,
    /// How often PostgreSQL answered so far, with whatever.
    answers: AtomicU64,
}

/// What is known when somebody begins to ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entered {
    answers: u64,
}

impl Gate {
    /// Lets somebody ask; `None` while it is shut.
    pub(crate) fn enter(&self) -> Option<Entered> {
        let answers = self.answers.load(Ordering::Acquire);
        (!self.is_shut.load(Ordering::Acquire)).then_some(Entered { answers })
    }

    /// Notes how asking ended. Who got no connection in all the time there is for it, while nobody
    /// else got an answer either, shuts the gate; with answers meanwhile the pool was only busy.
    pub(crate) fn note<T>(
        self: &Arc<Self>,
        entered: Entered,
        answer: &Result<T, sqlx::Error>,
        options: &PgConnectOptions,
    ) {
        match answer {
            Err(sqlx::Error::PoolTimedOut) => {
                let is_silent = self.answers.load(Ordering::Acquire) == entered.answers;
                if is_silent && !self.is_shut.swap(true, Ordering::AcqRel) {
                    tokio::spawn(probe(Arc::downgrade(self), options.clone()));
                }
            }
            Err(
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed,
            ) => {}
            Ok(_) | Err(_) => {
                self.answers.fetch_add(1, Ordering::AcqRel);
                self.is_shut.store(false, Ordering::Release);
            }
        }
    }
}

/// Tries until the gate is open again, or nobody is left before it.
async fn probe(gate: Weak<Gate>, options: PgConnectOptions) {
    while gate.upgrade().is_some_and(|gate| gate.is_shut.load(Ordering::Acquire)) {
        match tokio::time::timeout(PROBE_MAX, options.connect()).await {
            Ok(Ok(connection)) => {
                if let Some(gate) = gate.upgrade() {
                    gate.is_shut.store(false, Ordering::Release);
                }
                end(connection).await;
                return;
            }
            Ok(Err(_)) => tokio::time::sleep(PROBE_AGAIN).await,
            Err(_late) => {}
        }
    }
}

/// Says goodbye, if there is somebody to say it to.
async fn end(connection: PgConnection) {
    let _ = tokio::time::timeout(PROBE_MAX, connection.close()).await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use testkit::{Database, Proxy, eventually};
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;
    use crate::{Error, Ledger, Settings};

    fn settings(url: String) -> Settings {
        Settings {
            url: url.into(),
            connections_max: 10,
            acquire_timeout_ms: 200,
            statement_timeout_ms: 5_000,
            application_name: "gate",
        }
    }

    /// Asks again and again from `callers` tasks.
    fn ask_for_ever(ledger: &Ledger, callers: usize) -> tokio::task::JoinSet<()> {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..callers {
            let ledger = ledger.clone();
            tasks.spawn(async move {
                loop {
                    let _ = ledger.ping().await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        }
        tasks
    }

    #[tokio::test]
    async fn a_silent_server_is_not_asked_for_hundreds_of_connections() {
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = silent.local_addr().expect("an address");
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let _accepting = tokio::task::JoinSet::from_iter([async move {
            let mut kept = Vec::new();
            while let Ok((connection, _)) = silent.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                kept.push(connection);
            }
        }]);
        let ledger = Ledger::start(&settings(format!("postgres://x:y@{address}/x")));
        let ledger = ledger.expect("a pool");
        let _callers = ask_for_ever(&ledger, 10);
        let refused = eventually("the gate is shut", Duration::from_secs(10), async || {
            let begun = Instant::now();
            let is_down = matches!(ledger.ping().await, Err(Error::Unavailable(_)));
            (is_down && begun.elapsed() < Duration::from_millis(100)).then_some(())
        });
        refused.await.expect("it is told at once");
        let before = count.load(Ordering::Relaxed);
        // Time for ten rounds of the callers, if they were let through.
        tokio::time::sleep(PROBE_MAX).await;
        let more = count.load(Ordering::Relaxed) - before;
        assert!(more <= 3, "{more} connections more");
    }

    #[tokio::test]
    async fn a_server_that_is_back_is_of_use_at_once() {
        let database = Database::create().await.expect("a database");
        let proxy = Proxy::start(&database.url()).await.expect("a proxy");
        let ledger = Ledger::start(&settings(proxy.url())).expect("a pool");
        ledger.ping().await.expect("alive");
        proxy.stall();
        let _callers = ask_for_ever(&ledger, 10);
        let shut = eventually("the gate is shut", Duration::from_secs(10), async || {
            ledger.gate.enter().is_none().then_some(())
        });
        shut.await.expect("shut");
        proxy.heal();
        let back =
            eventually("it is back", Duration::from_secs(2), async || ledger.ping().await.ok());
        back.await.expect("alive");
    }

    #[tokio::test]
    async fn a_busy_pool_is_not_a_silent_server() {
        let database = Database::create().await.expect("a database");
        let busy = Settings { connections_max: 1, ..settings(database.url()) };
        let ledger = Ledger::start(&busy).expect("a pool");
        ledger.ping().await.expect("alive");
        let entered = ledger.gate.enter().expect("open");
        let options = ledger.pool.connect_options();
        // Somebody else is answered while this one waits.
        ledger.ping().await.expect("alive");
        ledger.gate.note::<()>(entered, &Err(sqlx::Error::PoolTimedOut), &options);
        assert!(ledger.gate.enter().is_some());
        let entered = ledger.gate.enter().expect("open");
        ledger.gate.note::<()>(entered, &Err(sqlx::Error::PoolTimedOut), &options);
        assert!(ledger.gate.enter().is_none());
    }
}
