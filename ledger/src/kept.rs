//! Connections kept between questions that are asked all the time.
//!
//! The pool asks a connection for a sign of life before it hands it out. When it gets it back it ends
//! what a cancelled caller may have left open, and asks again: three trips more for each statement. Work
//! here runs to its end in a task of its own and opens no transaction, so whoever comes next may have the
//! connection as it is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};

use crate::run::again;
use crate::{Error, Ledger};

/// Unused for longer, a connection may have died without a word: the pool is to ask it.
const UNUSED_MAX: Duration = Duration::from_secs(1);
/// After so long it goes back in any case: the pool replaces those that are old.
const KEPT_MAX: Duration = Duration::from_mins(1);

/// Those that nobody uses at the moment, the one used last on top.
#[derive(Debug)]
pub(crate) struct Kept {
    unused: Mutex<Vec<Line>>,
    unused_max: usize,
}

#[derive(Debug)]
struct Line {
    connection: PoolConnection<Postgres>,
    taken_at: Instant,
    used_at: Instant,
}

impl Kept {
    /// Keeps at most half of the pool's, so that there is always one for everybody else.
    pub(crate) fn of(pool: &PgPool) -> Arc<Self> {
        let half = pool.options().get_max_connections() / 2;
        let unused_max = usize::try_from(half).unwrap_or(usize::MAX);
        Arc::new(Self { unused: Mutex::default(), unused_max })
    }

    fn unused(&self) -> MutexGuard<'_, Vec<Line>> {
        self.unused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Line> {
        let mut unused = self.unused();
        let last = unused.pop()?;
        let is_fresh = last.used_at.elapsed() < UNUSED_MAX && last.taken_at.elapsed() < KEPT_MAX;
        if is_fresh {
            return Some(last);
        }
        // Those below it were used even longer ago.
        let stale = std::mem::take(&mut *unused);
        drop(unused);
        drop((last, stale));
        None
    }

    fn keep(&self, line: Line) {
        let mut unused = self.unused();
        if unused.len() < self.unused_max {
            unused.push(line);
        }
    }

    /// Asks over a kept connection, and once more over one of the pool's if that is broken.
    async fn ask<T>(&self, pool: &PgPool, question: &impl Question<T>) -> Result<T, sqlx::Error> {
        if let Some(kept) = self.take() {
            let answer = self.ask_over(kept, question).await;
            if !answer.as_ref().is_err_and(is_end_of_connection) {
                return answer;
            }
        }
        let taken_at = Instant::now();
        let connection = pool.acquire().await?;
        self.ask_over(Line { connection, taken_at, used_at: taken_at }, question).await
    }

    async fn ask_over<T>(
        &self,
        mut line: Line,
        question: &impl Question<T>,
    ) -> Result<T, sqlx::Error> {
        let answer = question(&mut line.connection).await;
        // Of any doubt the pool is the judge.
        if answer.is_ok() {
            line.used_at = Instant::now();
            self.keep(line);
        }
        answer
    }
}

/// Tells what a statement says when its connection had ended before, or ends under it.
fn is_end_of_connection(error: &sqlx::Error) -> bool {
    match error {
        // The server shuts down, or has ended this connection.
        sqlx::Error::Database(answer) => {
            answer.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
        }
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        _ => false,
    }
}

/// One statement over a connection. It may be done twice, and must come to the same then.
pub(crate) trait Question<T>:
    for<'c> Fn(&'c mut PgConnection) -> Asked<'c, T> + Send + Sync + 'static
{
}

impl<T, Q> Question<T> for Q where
    Q: for<'c> Fn(&'c mut PgConnection) -> Asked<'c, T> + Send + Sync + 'static
{
}

pub(crate) type Asked<'c, T> = BoxFuture<'c, Result<T, sqlx::Error>>;

impl Ledger {
    /// Does as [`Ledger::run`], over a connection that is kept for the next: for what is asked many times a
    /// second.
    pub(crate) async fn run_kept<T: Send + 'static>(
        &self,
        question: impl Question<T>,
    ) -> Result<T, Error> {
        self.run_shared(&Arc::new(question)).await
    }

    /// Does as [`Ledger::run_kept`], again a few times while another writer is met.
    pub(crate) async fn run_kept_again<T: Send + 'static>(
        &self,
        question: impl Question<T>,
    ) -> Result<T, Error> {
        let question = Arc::new(question);
        again(|| self.run_shared(&question)).await
    }

    async fn run_shared<T: Send + 'static>(
        &self,
        question: &Arc<impl Question<T>>,
    ) -> Result<T, Error> {
        let (kept, question) = (Arc::clone(&self.kept), Arc::clone(question));
        self.run(move |pool| async move { kept.ask(&pool, &*question).await }).await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use testkit::Database;

    use super::*;
    use crate::Settings;

    fn ledger(database: &Database, connections_max: u32) -> Ledger {
        let settings = Settings {
            url: database.url().into(),
            connections_max,
            acquire_timeout_ms: 2_000,
            statement_timeout_ms: 5_000,
            application_name: "kept",
        };
        Ledger::start(&settings).expect("a pool")
    }

    /// Asks which process of the server answers.
    async fn answering(ledger: &Ledger) -> i32 {
        let pid = ledger.run_kept(|connection| {
            sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(connection).boxed()
        });
        pid.await.expect("an answer")
    }

    #[tokio::test]
    async fn one_after_the_other_ask_over_the_same() {
        let database = Database::create().await.expect("a database");
        let ledger = ledger(&database, 4);
        let first = answering(&ledger).await;
        // The pool's own would come first if this one had been given back.
        ledger.ping().await.expect("alive");
        assert_eq!(answering(&ledger).await, first);
        assert_eq!(ledger.kept.unused().len(), 1);
    }

    #[tokio::test]
    async fn one_that_the_server_ended_is_replaced_unseen() {
        let database = Database::create().await.expect("a database");
        let ledger = ledger(&database, 4);
        let first = answering(&ledger).await;
        let end = sqlx::query("SELECT pg_terminate_backend($1, 5000)").bind(first);
        end.execute(&ledger.pool).await.expect("ends");
        assert_ne!(answering(&ledger).await, first);
    }

    #[tokio::test]
    async fn those_unused_for_long_and_those_kept_for_long_are_the_pools_again() {
        let database = Database::create().await.expect("a database");
        let ledger = ledger(&database, 8);
        let two = async || {
            answering(&ledger).await;
            let one = ledger.kept.take().expect("a kept one");
            answering(&ledger).await;
            ledger.kept.keep(one);
            assert_eq!(ledger.kept.unused().len(), 2);
        };
        two().await;
        for line in &mut *ledger.kept.unused() {
            line.used_at -= UNUSED_MAX;
        }
        answering(&ledger).await;
        assert_eq!(ledger.kept.unused().len(), 1);
        two().await;
        for line in &mut *ledger.kept.unused() {
            line.taken_at -= KEPT_MAX;
        }
        answering(&ledger).await;
        assert_eq!(ledger.kept.unused().len(), 1);
    }

    #[tokio::test]
    async fn there_is_always_one_for_everybody_else() {
        let database = Database::create().await.expect("a database");
        for connections_max in [1, 2, 3] {
            let ledger = ledger(&database, connections_max);
            let mut taken = Vec::new();
            for _ in 0..connections_max {
                answering(&ledger).await;
                taken.extend(ledger.kept.take());
            }
            for line in taken {
                ledger.kept.keep(line);
            }
            ledger.ping().await.expect("alive");
        }
    }
}
