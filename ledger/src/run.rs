//! One place through which statements go.

use std::future::Future;

use crate::{Error, Ledger};

impl Ledger {
    /// Runs database work in a task of its own, so that nobody cancels it half way.
    pub(crate) async fn run<T, F, Fut>(&self, work: F) -> Result<T, Error>
    where
        F: FnOnce(sqlx::PgPool) -> Fut,
        Fut: Future<Output = Result<T, sqlx::Error>> + Send + 'static,
        T: Send + 'static,
    {
        match tokio::spawn(work(self.pool.clone())).await {
            Ok(result) => result.map_err(Error::Unavailable),
            Err(gone) => Err(Error::Unavailable(sqlx::Error::Io(std::io::Error::other(gone)))),
        }
    }
}

impl Error {
    /// The database answered with a word this version does not know.
    pub(crate) fn unknown_word(what: &str, word: &str) -> Self {
        Self::Unexpected(sqlx::Error::Decode(format!("unknown {what} {word:?}").into()))
    }
}
