//! Connections kept between questions that are asked all the time.
//!
//! The pool asks a connection for a sign of life before it hands it out. When it gets it back it ends
//! what a cancelled caller may have left open, and asks again: three trips more for each statement. Work
//! here runs to its end in a task of its own and opens no transaction, so whoever comes next may have the
//! connection as it is.
//!
//! At most half of the pool's connections are kept ones, in use or not: further questions wait in the
//! pool's line, as everybody else does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, PgConnection, PgPool, Postgres};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::run::again;
use crate::{Error, Ledger};

/// Unused for longer, a connection may have died without a word: it goes back once it gave a sign of life.
const UNUSED_MAX: Duration = Duration::from_secs(1);
/// After so long one goes back in any case: the pool replaces those that are old.
const KEPT_MAX: Duration = Duration::from_mins(1);
/// How long after it began a question is asked again because its connection ended. Later its caller may have
/// gone, and what it does would come as a surprise.
const AGAIN_WITHIN: Duration = Duration::from_secs(1);
/// How long a connection that goes back may take to give a sign of life. One that gives none is closed, so
/// that a line that went dead does not hold its place in the pool.
const SIGN_OF_LIFE_MAX: Duration = Duration::from_secs(2);

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

/// The kept ones. While there are any, the pool must not be closed: it would wait for them.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Those that nobody uses at the moment, the one used last on top.
    unused: Mutex<Vec<Line>>,
    places: Arc<Semaphore>,
    again_within: Duration,
}

#[derive(Debug)]
struct Line {
    connection: PoolConnection<Postgres>,
    taken_at: Instant,
    used_at: Instant,
    _place: OwnedSemaphorePermit,
}

impl Line {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used_at) < UNUSED_MAX
            && now.saturating_duration_since(self.taken_at) < KEPT_MAX
    }
}

impl Kept {
    /// Keeps none yet.
    pub(crate) fn of(pool: &PgPool) -> Arc<Self> {
        let half = pool.options().get_max_connections() / 2;
        let half = usize::try_from(half).unwrap_or(Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(half.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { unused: Mutex::default(), places, again_within: AGAIN_WITHIN })
    }

    /// Gives back those that are unused, or kept, for too long. Whoever asks PostgreSQL anything does so, so
    /// that a rush leaves none behind.
    pub(crate) fn give_back_old(&self, now: Instant) {
        let mut unused = self.unused();
        if unused.iter().all(|line| line.is_fresh(now)) {
            return;
        }
        let (fresh, old) = unused.drain(..).partition(|line| line.is_fresh(now));
        *unused = fresh;
        drop(unused);
        give_back(old);
    }

    fn unused(&self) -> MutexGuard<'_, Vec<Line>> {
        self.unused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks over a kept connection, and once more over one of the pool's if that has ended.
    async fn ask<T>(&self, pool: &PgPool, question: &impl Question<T>) -> Result<T, sqlx::Error> {
        let began = Instant::now();
        let last = self.unused().pop();
        if let Some(line) = last {
            let answer = self.ask_over(line, question).await;
            if !answer.as_ref().is_err_and(is_end_of_connection) {
                return answer;
            }
            // What ended one has likely ended the others.
            let others = std::mem::take(&mut *self.unused());
            give_back(others);
            if began.elapsed() >= self.again_within {
                return answer;
            }
        }
        let mut connection = pool.acquire().await?;
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return question(&mut connection).await;
        };
        let now = Instant::now();
        let line = Line { connection, taken_at: now, used_at: now, _place: place };
        self.ask_over(line, question).await
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
            self.unused().push(line);
        }
        answer
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if Handle::try_current().is_err() {
            // The pool would give them back in a task, and there is nobody to run it.
            for line in self.unused().drain(..) {
                drop(line.connection.detach());
            }
        }
    }
}

fn give_back(lines: Vec<Line>) {
    for line in lines {
        tokio::spawn(give_back_one(line));
    }
}

async fn give_back_one(mut line: Line) {
    let alive = tokio::time::timeout(SIGN_OF_LIFE_MAX, line.connection.ping()).await;
    if !matches!(alive, Ok(Ok(()))) {
        line.connection.close_on_drop();
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;
    use testkit::{Database, eventually};
    use tokio::task::JoinSet;

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

    /// Asks something that ends its connection the first time; returns how often it was asked.
    async fn ended_in_the_middle(ledger: &Ledger) -> (Result<i32, Error>, usize) {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let answer = ledger.run_kept(move |connection| {
            let is_first = counted.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                if is_first {
                    let end = sqlx::query("SELECT pg_terminate_backend(pg_backend_pid())");
                    end.execute(&mut *connection).await?;
                }
                sqlx::query_scalar("SELECT 1").fetch_one(connection).await
            }
            .boxed()
        });
        let answer = answer.await;
        (answer, count.load(Ordering::Relaxed))
    }

    async fn unused_are(ledger: &Ledger, count: usize) {
        let there = eventually("the kept ones", Duration::from_secs(10), async || {
            (ledger.kept.unused().len() == count).then_some(())
        });
        there.await.expect("so many");
    }

    #[tokio::test]
    async fn one_after_the_other_ask_over_the_same() {
        let database = Database::create().await.expect("a database");
        let ledger = ledger(&database, 4);
        let first = answering(&ledger).await;
        for line in &mut *ledger.kept.unused() {
            line.used_at += Duration::from_hours(1);
        }
        // The pool's own would come first if this one had been given back.
        ledger.ping().await.expect("alive");
        assert_eq!(answering(&ledger).await, first);
        assert_eq!(ledger.kept.unused().len(), 1);
    }

    #[tokio::test]
    async fn one_that_the_server_ended_is_replaced_unseen() {
        let database = Database::create().await.expect("a database");
        let ledger = ledger(&database, 4);
        answering(&ledger).await;
        let (answer, count) = ended_in_the_middle(&ledger).await;
        assert_eq!((answer.expect("an answer"), count), (1, 2));
    }

    #[tokio::test]
    async fn what_ended_late_is_not_asked_again() {
        let database = Database::create().await.expect("a database");
        let mut ledger = ledger(&database, 4);
        Arc::get_mut(&mut ledger.kept).expect("not shared yet").again_within = Duration::ZERO;
        answering(&ledger).await;
        let (answer, count) = ended_in_the_middle(&ledger).await;
        assert!(matches!(answer, Err(Error::Unavailable(_))), "{answer:?}");
        assert_eq!(count, 1);
    }

    #[tokio::test]
    async fn those_unused_for_long_and_those_kept_for_long_go_back() {
        let database = Database::create().await.expect("a database");
        let ledger = ledger(&database, 4);
        for age in [UNUSED_MAX, KEPT_MAX] {
            answering(&ledger).await;
            unused_are(&ledger, 1).await;
            for line in &mut *ledger.kept.unused() {
                line.used_at = Instant::now() + Duration::from_hours(1);
                line.taken_at = line.used_at;
            }
            ledger.ping().await.expect("alive");
            assert_eq!(ledger.kept.unused().len(), 1, "it is young");
            for line in &mut *ledger.kept.unused() {
                let at = if age == KEPT_MAX { &mut line.taken_at } else { &mut line.used_at };
                *at = Instant::now().checked_sub(age).expect("the machine runs for longer");
            }
            ledger.ping().await.expect("alive");
            assert_eq!(ledger.kept.unused().len(), 0);
        }
        let all = eventually("its place", Duration::from_secs(10), async || {
            (ledger.kept.places.available_permits() == 2).then_some(())
        });
        all.await.expect("given back");
    }

    /// The race: whoever has a kept connection would have it again at once, and those who wait in the pool's
    /// line would wait for ever.
    #[tokio::test]
    async fn everybody_else_gets_a_connection_while_more_ask_than_there_are() {
        let database = Database::create().await.expect("a database");
        for connections_max in [1, 2, 4] {
            let ledger = ledger(&database, connections_max);
            let mut asking = JoinSet::new();
            for _ in 0..2 * connections_max {
                let ledger = ledger.clone();
                asking.spawn(async move {
                    loop {
                        let slow = ledger.run_kept(|connection| {
                            sqlx::query("SELECT pg_sleep(0.005)").execute(connection).boxed()
                        });
                        slow.await.expect("an answer");
                    }
                });
            }
            for _ in 0..5 {
                ledger.ping().await.expect("a connection");
            }
        }
    }

    #[test]
    fn it_may_be_dropped_where_nothing_runs() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let (database, ledger) = runtime.block_on(async {
            let database = Database::create().await.expect("a database");
            let ledger = ledger(&database, 4);
            answering(&ledger).await;
            unused_are(&ledger, 1).await;
            (database, ledger)
        });
        drop(ledger);
        drop(database);
    }
}
