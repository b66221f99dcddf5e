//! What faults of this module mean for the client.

use super::password::Busy;
use super::seal::Broken;
use super::token::Unsigned;
use crate::problem::{Code, Problem};

impl From<Busy> for Problem {
    fn from(_: Busy) -> Self {
        Code::Overloaded.into()
    }
}

impl From<Broken> for Problem {
    fn from(error: Broken) -> Self {
        Self::internal(error)
    }
}

impl From<Unsigned> for Problem {
    fn from(error: Unsigned) -> Self {
        Self::internal(error)
    }
}

impl Problem {
    /// Logs a fault of this program, and says no more than that there was one.
    pub fn internal(error: impl Into<anyhow::Error>) -> Self {
        let error: anyhow::Error = error.into();
        tracing::error!(error = format!("{error:#}"), "a fault");
        Code::Internal.into()
    }
}
