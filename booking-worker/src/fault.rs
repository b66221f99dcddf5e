//! Logging a lasting fault once.

use std::fmt::{Debug, Display};

/// Remembers whether something works, so that a fault is logged when it starts and when it ends,
/// not at every try in between.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    what: String,
    is_on: bool,
}

impl Fault {
    pub(crate) fn of(what: impl Into<String>) -> Self {
        Self { what: what.into(), is_on: false }
    }

    /// Notes the outcome of a try and hands its value on.
    pub(crate) fn note<T, E: Display + Debug>(&mut self, outcome: Result<T, E>) -> Option<T> {
        match outcome {
            Ok(value) => {
                if self.is_on {
                    tracing::info!(what = self.what, "works again");
                }
                self.is_on = false;
                Some(value)
            }
            Err(error) => {
                if !self.is_on {
                    tracing::warn!(what = self.what, %error, cause = ?error, "does not work now");
                }
                self.is_on = true;
                None
            }
        }
    }
}
