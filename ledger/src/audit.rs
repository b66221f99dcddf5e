//! The invariants that PostgreSQL alone can answer for, as queries that must find nothing.
use crate::{Error, Ledger};
/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name in the documents: `I1`, `I2` …
    pub invariant: &'static str,
    /// What was found, without personal data.
    pub detail: String,
}
impl Ledger {
    /// Checks I1, I2, I5, I9 and I6's accounting over the whole ledger, on one snapshot.
    pub async fn audit(&self) -> Result<Vec<Violation>, Error> { unimplemented!() }
}
