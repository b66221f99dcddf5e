//! The pool, the migrations and what may go wrong.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::sync::Semaphore;

use crate::gate::Gate;
use crate::kept::Kept;
use crate::run::LONG_AT_ONCE_MAX;

/// How to reach PostgreSQL.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `postgres://…`
    pub url: SecretString,
    /// Connections at most.
    pub connections_max: u32,
    /// How long to wait for a connection.
    pub acquire_timeout_ms: u64,
    /// How long a statement may run.
    pub statement_timeout_ms: u64,
    /// Shown in `pg_stat_activity`.
    pub application_name: &'static str,
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL was not reached, went away, or was too slow: what was asked may or may not have happened.
    #[error("PostgreSQL is not available")]
    Unavailable(#[source] sqlx::Error),
    /// Two writers met; nothing happened; the same call may be tried again at once.
    #[error("lost a race with another writer")]
    Contended,
    /// A constraint or check of the ledger refused: the named invariant would have been broken.
    #[error("the ledger refused: {constraint}")]
    Refused {
        /// Name of the constraint, or the SQLSTATE's condition raised by a step.
        constraint: String,
    },
    /// Anything else: a fault of this code or of the schema.
    #[error("unexpected answer of PostgreSQL")]
    Unexpected(#[source] sqlx::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(answer) => {
                let code = answer.code().unwrap_or_default().into_owned();
                let constraint = answer.constraint().map(str::to_owned);
                Self::from_answer(&code, constraint, error)
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
            _ => Self::Unexpected(error),
        }
    }
}

impl Error {
    /// Maps a SQLSTATE and a constraint's name, both exact, to what the caller can do about it.
    fn from_answer(code: &str, constraint: Option<String>, error: sqlx::Error) -> Self {
        let refused = |condition: &str| Self::Refused { constraint: condition.to_owned() };
        match code {
            // Conditions raised by the steps, listed in migrations/0002_steps.sql.
            // SR001, serialization failure, deadlock, lock timeout: the statement was undone.
            "SR001" | "40001" | "40P01" | "55P03" => Self::Contended,
            "SR002" => refused("wave_not_distinct"),
            "SR003" => refused("sold_missing"),
            "SR004" => refused("sold_below_consumed"),
            "SR005" => refused("sold_above_granted"),
            "SR006" => refused("epoch_not_sealed"),
            "SR007" => refused("allotment_unknown"),
            // Unique, check and foreign keys.
            "23505" | "23514" | "23503" => match constraint {
                // Another writer took the same place between judging and writing. Of epochs: the
                // race for a partition's first, where there is no row to lock yet.
                Some(name)
                    if name == "booking_session_patient_key"
                        || name == "booking_patient_key_key"
                        || name == "epoch_open_key" =>
                {
                    Self::Contended
                }
                Some(constraint) => Self::Refused { constraint },
                None => Self::Unexpected(error),
            },
            // Statement timeout, cancelled; idle in transaction; too many connections; shutting
            // down, crashed, starting up; the database is read only (a standby).
            "57014" | "25P03" | "53300" | "57P01" | "57P02" | "57P03" | "25006" => {
                Self::Unavailable(error)
            }
            // Connection exceptions.
            _ if code.starts_with("08") => Self::Unavailable(error),
            _ => Self::Unexpected(error),
        }
    }
}

/// Handles to PostgreSQL. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(crate) pool: PgPool,
    /// How long a caller waits for an answer at most; the work itself goes on.
    pub(crate) answer_within: Duration,
    pub(crate) gate: Arc<Gate>,
    pub(crate) kept: Arc<Kept>,
    /// Turns of steps that take long.
    pub(crate) long: Arc<Semaphore>,
}

impl Ledger {
    /// Builds the pool and returns at once; connections are made when needed.
    pub fn start(settings: &Settings) -> Result<Self, Error> {
        let statement_ms = settings.statement_timeout_ms;
        let options = PgConnectOptions::from_str(settings.url.expose_secret())?
            .application_name(settings.application_name)
            .options([
                ("statement_timeout", statement_ms),
                // Shorter than the statement's, so that a wait for a lock is told from a slow plan.
                ("lock_timeout", (statement_ms / 2).max(1)),
                ("idle_in_transaction_session_timeout", statement_ms),
                // What is asked in a rush reads a thousand rows. Beside millions of bookings PostgreSQL
                // starts two more processes for that, and takes eight times as long.
                ("max_parallel_workers_per_gather", 0),
                // The server's side of a line that went dead without a word: a connection whose
                // client does not answer ends, and its place is free for another.
                ("tcp_keepalives_idle", 15),
                ("tcp_keepalives_interval", 5),
                ("tcp_keepalives_count", 3),
                ("tcp_user_timeout", 30_000),
            ]);
        let pool = PgPoolOptions::new()
            .max_connections(settings.connections_max)
            .acquire_timeout(Duration::from_millis(settings.acquire_timeout_ms))
            // A cancelled `begin` leaves a transaction open in the connection, and what others
            // then write in it is lost. BEGIN first, because a lone ROLLBACK outside of a
            // transaction fills the server's log with warnings. Inside a failed transaction it is
            // an error, and the pool then drops the connection.
            .after_release(|connection, _| {
                Box::pin(async move {
                    sqlx::raw_sql("BEGIN; ROLLBACK").execute(connection).await?;
                    Ok(true)
                })
            })
            .connect_lazy_with(options);
        let kept = Kept::of(&pool);
        let long = Arc::new(Semaphore::new(LONG_AT_ONCE_MAX));
        Ok(Self { pool, answer_within: answer_within(settings), gate: Arc::default(), kept, long })
    }

    /// Applies the migrations, under sqlx's own lock.
    pub async fn migrate(&self) -> Result<(), Error> {
        self.run_unbounded(|pool| async move {
            // A connection of its own: a migration may take longer than any step.
            let options = pool.connect_options().as_ref().clone().options([
                ("statement_timeout", 0),
                ("lock_timeout", 0),
                ("idle_in_transaction_session_timeout", 0),
            ]);
            let mut connection = options.connect().await?;
            sqlx::migrate!("../migrations")
                .run_direct(None, &mut connection, false)
                .await
                .map_err(|error| sqlx::Error::Migrate(Box::new(error)))?;
            Ok(())
        })
        .await
    }

    /// Fixes the number of partitions of this database, or checks it: `Refused` if it is another.
    pub async fn check_partitions(&self, partitions: booking::PartitionCount) -> Result<(), Error> {
        let wanted = i16::from(partitions.get());
        let fixed: i16 = self
            .run(move |pool| async move {
                sqlx::query(
                    "INSERT INTO deployment (partitions)
                     VALUES ($1)
                     ON CONFLICT (only_row) DO NOTHING",
                )
                .bind(wanted)
                .execute(&pool)
                .await?;
                sqlx::query_scalar("SELECT partitions FROM deployment").fetch_one(&pool).await
            })
            .await?;
        if fixed == wanted {
            Ok(())
        } else {
            Err(Error::Refused { constraint: "deployment_partitions".to_owned() })
        }
    }

    /// Asks for a sign of life.
    pub async fn ping(&self) -> Result<(), Error> {
        self.run(|pool| async move {
            sqlx::query("SELECT 1").execute(&pool).await?;
            Ok(())
        })
        .await
    }
}

/// Longer than any work that still can succeed: a connection, two statements, and the way there and
/// back. sqlx sets no deadline of its own on a line that goes dead in the middle of a statement.
fn answer_within(settings: &Settings) -> Duration {
    let work_ms = settings.acquire_timeout_ms + 2 * settings.statement_timeout_ms;
    Duration::from_millis(work_ms + 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_connection(database: &testkit::Database) -> Settings {
        Settings {
            url: database.url().into(),
            connections_max: 1,
            acquire_timeout_ms: 5_000,
            statement_timeout_ms: 5_000,
            application_name: "one",
        }
    }

    #[tokio::test]
    async fn a_transaction_left_open_does_not_reach_the_next_user_of_its_connection() {
        let database = testkit::Database::create().await.expect("a database");
        let settings = one_connection(&database);
        let ledger = Ledger::start(&settings).expect("a pool");
        ledger.migrate().await.expect("migrates");
        // What a cancelled `begin` leaves behind.
        let mut abandoned = ledger.pool.acquire().await.expect("a connection");
        sqlx::raw_sql("BEGIN").execute(&mut *abandoned).await.expect("begins");
        drop(abandoned);
        assert!(ledger.lead_reconciler("me", 60_000).await.expect("an answer"));
        ledger.pool.close().await;
        let other = Ledger::start(&settings).expect("a pool");
        assert!(!other.lead_reconciler("you", 60_000).await.expect("an answer"), "mine was lost");
    }

    #[tokio::test]
    async fn a_statement_takes_one_process() {
        let database = testkit::Database::create().await.expect("a database");
        let settings = one_connection(&database);
        let ledger = Ledger::start(&settings).expect("a pool");
        ledger.migrate().await.expect("migrates");
        let mut connection = ledger.pool.acquire().await.expect("a connection");
        // As if all tables were large.
        let eager = "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
            SET min_parallel_table_scan_size = 0";
        sqlx::raw_sql(eager).execute(&mut *connection).await.expect("sets");
        let plan: Vec<String> = sqlx::query_scalar("EXPLAIN SELECT count(*) FROM booking")
            .fetch_all(&mut *connection)
            .await
            .expect("plans");
        assert!(!plan.concat().contains("Gather"), "{plan:?}");
    }

    /// The race: the line goes dead after the statement has a connection and before its answer.
    #[tokio::test]
    async fn a_line_that_goes_dead_in_the_middle_is_unavailable_in_time() {
        let database = testkit::Database::create().await.expect("a database");
        let proxy = testkit::Proxy::start(&database.url()).await.expect("a proxy");
        let proxy = std::sync::Arc::new(proxy);
        let settings = Settings {
            url: proxy.url().into(),
            connections_max: 1,
            acquire_timeout_ms: 2_000,
            statement_timeout_ms: 500,
            application_name: "one",
        };
        let ledger = Ledger::start(&settings).expect("a pool");
        let line = std::sync::Arc::clone(&proxy);
        let asked = ledger.run(move |pool| async move {
            let mut connection = pool.acquire().await?;
            line.stall();
            sqlx::query("SELECT 1").execute(&mut *connection).await
        });
        let answer = tokio::time::timeout(Duration::from_secs(8), asked).await.expect("in time");
        assert!(matches!(answer, Err(Error::Unavailable(_))), "{answer:?}");
        // The work was not cancelled: its connection is good when the line is.
        proxy.heal();
        let alive = testkit::eventually("it is back", Duration::from_secs(10), async || {
            ledger.ping().await.ok()
        });
        alive.await.expect("alive");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_unavailable() {
        let settings = Settings {
            url: format!("postgres://x@127.0.0.1:{}/x", testkit::free_port()).into(),
            connections_max: 1,
            acquire_timeout_ms: 500,
            statement_timeout_ms: 500,
            application_name: "one",
        };
        let ledger = Ledger::start(&settings).expect("a pool");
        assert!(matches!(ledger.ping().await, Err(Error::Unavailable(_))));
    }
}
