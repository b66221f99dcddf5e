//! One place through which statements go.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng as _;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tracing::Instrument as _;

use crate::{Error, Ledger};

/// How often a step that met another writer is tried in all.
const ATTEMPTS_MAX: u32 = 8;
/// How long a step may take that changes all slots of an epoch or of a release at once, some 10,000 a second.
/// Where it is always cut off it is undone and begun again for ever, and the partition never sells again.
/// Such a step changes no booking: who follows changes does not wait that long for one.
const LONG: Duration = Duration::from_mins(5);
/// Long steps at once, each on a connection beside those of the pool.
pub(crate) const LONG_AT_ONCE_MAX: usize = 4;

impl Ledger {
    /// Does database work in a task of its own, so that a caller who vanishes cancels nothing:
    /// a cancelled query poisons its connection for whoever uses it next.
    ///
    /// Who waits longer than any work can take, because the line went dead, hears `Unavailable`,
    /// which says that it may have happened. The work is left to itself even then. While PostgreSQL is
    /// silent it is not asked, and this is `Unavailable` at once.
    pub(crate) async fn run<T, Work, Answer>(&self, work: Work) -> Result<T, Error>
    where
        T: Send + 'static,
        Work: FnOnce(PgPool) -> Answer,
        Answer: Future<Output = Result<T, sqlx::Error>> + Send + 'static,
    {
        let Some(entered) = self.gate.enter() else {
            return Err(Error::Unavailable(sqlx::Error::PoolTimedOut));
        };
        self.kept.give_back_old(Instant::now());
        let gate = Arc::clone(&self.gate);
        let answer = self.run_unbounded(move |pool| {
            let options = pool.connect_options();
            let answer = work(pool);
            async move {
                let answer = answer.await;
                gate.note(entered, &answer, &options);
                answer
            }
        });
        match tokio::time::timeout(self.answer_within, answer).await {
            Ok(answer) => answer,
            Err(_late) => {
                Err(Error::Unavailable(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
            }
        }
    }

    /// Does as [`Ledger::run`], however long it takes.
    pub(crate) async fn run_unbounded<T, Work, Answer>(&self, work: Work) -> Result<T, Error>
    where
        T: Send + 'static,
        Work: FnOnce(PgPool) -> Answer,
        Answer: Future<Output = Result<T, sqlx::Error>> + Send + 'static,
    {
        match tokio::spawn(work(self.pool.clone()).in_current_span()).await {
            Ok(answer) => Ok(answer?),
            Err(_ended) => Err(Error::Unavailable(sqlx::Error::WorkerCrashed)),
        }
    }

    /// Does as [`Ledger::run`], again a few times while another writer is met.
    pub(crate) async fn run_again<T, Work, Answer>(&self, work: Work) -> Result<T, Error>
    where
        T: Send + 'static,
        Work: Fn(PgPool) -> Answer,
        Answer: Future<Output = Result<T, sqlx::Error>> + Send + 'static,
    {
        again(|| self.run(&work)).await
    }

    /// Does as [`Ledger::run_again`], and where PostgreSQL says that it was cut off, once more with time for
    /// it: on a connection of its own, so that those of the pool are left to others.
    pub(crate) async fn run_long<T, Work, Answer>(&self, work: Work) -> Result<T, Error>
    where
        T: Send + 'static,
        Work: Fn(PgPool) -> Answer,
        Answer: Future<Output = Result<T, sqlx::Error>> + Send + 'static,
    {
        match self.run_again(&work).await {
            Err(error) if error.is_cut_off() => {}
            answer => return answer,
        }
        let _turn = self.long.acquire().await;
        let options = self.pool.connect_options().as_ref().clone();
        let options = options.options([("statement_timeout", LONG.as_millis())]);
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(self.answer_within)
            .connect_lazy_with(options);
        tracing::warn!(seconds_at_most = LONG.as_secs(), "a step over many slots gets more time");
        let ask = || async {
            let asked = tokio::spawn(work(pool.clone()).in_current_span());
            match tokio::time::timeout(LONG + self.answer_within, asked).await {
                Ok(Ok(answer)) => Ok(answer?),
                Ok(Err(_ended)) => Err(Error::Unavailable(sqlx::Error::WorkerCrashed)),
                Err(_late) => {
                    Err(Error::Unavailable(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
                }
            }
        };
        let answer = again(ask).await;
        // A line that went dead holds its connection: nobody waits for that.
        let _ = tokio::time::timeout(self.answer_within, pool.close()).await;
        answer
    }
}

/// Asks a few times while another writer is met.
pub(crate) async fn again<T, Asked>(ask: impl Fn() -> Asked) -> Result<T, Error>
where
    Asked: Future<Output = Result<T, Error>>,
{
    for attempt in 1..ATTEMPTS_MAX {
        match ask().await {
            Err(Error::Contended) => {
                // Two that met once should not meet again in step.
                let up_to_us = 500 << attempt;
                let pause_us = rand::rng().random_range(0..up_to_us);
                tokio::time::sleep(Duration::from_micros(pause_us)).await;
            }
            answer => return answer,
        }
    }
    ask().await
}

impl Error {
    /// PostgreSQL ended the statement because it took too long: nothing of it happened.
    pub(crate) fn is_cut_off(&self) -> bool {
        let Self::Unavailable(sqlx::Error::Database(error)) = self else { return false };
        error.code().is_some_and(|code| code == "57014")
    }

    /// The database answered with a word this version does not know.
    pub(crate) fn unknown_word(what: &str, word: &str) -> Self {
        Self::Unexpected(sqlx::Error::Decode(format!("unknown {what} {word:?}").into()))
    }
}
