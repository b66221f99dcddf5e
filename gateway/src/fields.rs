//! Faults of a request's fields, gathered so that the client sees all of them at once.

use booking::UnixMs;

use crate::problem::{Code, Problem};

/// The faults found so far.
#[derive(Debug, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Notes a fault of the field at `pointer` unless `is_good`.
    pub fn check(&mut self, is_good: bool, pointer: impl Into<String>, detail: impl Into<String>) {
        if !is_good {
            self.0.push((pointer.into(), detail.into()));
        }
    }

    /// Checks a text for people: 1 to `chars_max` characters, none of them for control, no space
    /// at either end.
    pub fn check_name(&mut self, text: &str, chars_max: usize, pointer: &str) {
        let is_good = (1..=chars_max).contains(&text.chars().count())
            && !text.chars().any(char::is_control)
            && text.trim() == text;
        self.check(is_good, pointer, format!("1 to {chars_max} characters, trimmed"));
    }

    /// Ends with a problem if there was any fault.
    pub fn finish(self) -> Result<(), Problem> {
        if self.0.is_empty() {
            return Ok(());
        }
        let problem = Problem::new(Code::InvalidField);
        Err(self
            .0
            .into_iter()
            .fold(problem, |problem, (at, detail)| problem.with_field(at, detail)))
    }
}

/// Returns the milliseconds of an instant a client named.
pub fn unix_ms(at: jiff::Timestamp) -> UnixMs {
    UnixMs(at.as_millisecond())
}
