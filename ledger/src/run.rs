//! One place through which statements go.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng as _;
use sqlx::{PgPool, Postgres, Transaction};
use tracing::Instrument as _;

use crate::{Error, Ledger};

/// How often a step that met another writer is tried in all.
const ATTEMPTS_MAX: u32 = 8;
/// How long a step may take that changes all slots of an epoch at once: for 200,000 it was nine seconds, beside
/// other work. Where it is cut off it is undone, and the same again the next time: the partition would never
/// sell again.
const LONG: Duration = Duration::from_mins(5);

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
        self.run_within(self.answer_within, work).await
    }

    async fn run_within<T, Work, Answer>(&self, within: Duration, work: Work) -> Result<T, Error>
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
        match tokio::time::timeout(within, answer).await {
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

    /// Does as [`Ledger::run_again`] with a step over all slots of an epoch, which may take minutes. `work`
    /// commits.
    pub(crate) async fn run_long<T, Work, Answer>(&self, work: Work) -> Result<T, Error>
    where
        T: Send + 'static,
        Work: Fn(Transaction<'static, Postgres>) -> Answer + Clone + Send + 'static,
        Answer: Future<Output = Result<T, sqlx::Error>> + Send + 'static,
    {
        let one = || {
            let work = work.clone();
            self.run_within(LONG + self.answer_within, |pool| async move {
                let mut transaction = pool.begin().await?;
                sqlx::query("SELECT set_config('statement_timeout', $1, true)")
                    .bind(LONG.as_millis().to_string())
                    .execute(&mut *transaction)
                    .await?;
                work(transaction).await
            })
        };
        again(one).await
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
    /// The database answered with a word this version does not know.
    pub(crate) fn unknown_word(what: &str, word: &str) -> Self {
        Self::Unexpected(sqlx::Error::Decode(format!("unknown {what} {word:?}").into()))
    }
}
