//! The pool, the migrations and what may go wrong.
use secrecy::SecretString;
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
/// Handles to PostgreSQL. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ledger { pub(crate) pool: sqlx::PgPool }
impl Ledger {
    /// Builds the pool and returns at once; connections are made when needed.
    pub fn start(settings: &Settings) -> Result<Self, Error> { unimplemented!() }
    /// Applies the migrations, under sqlx's own lock.
    pub async fn migrate(&self) -> Result<(), Error> { unimplemented!() }
    /// Fixes the number of partitions of this database, or checks it: `Refused` if it is another.
    pub async fn check_partitions(&self, partitions: booking::PartitionCount) -> Result<(), Error> { unimplemented!() }
    /// Asks for a sign of life.
    pub async fn ping(&self) -> Result<(), Error> { unimplemented!() }
}
