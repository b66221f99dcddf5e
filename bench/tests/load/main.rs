//! The generators against a server that is known.

mod closed;
mod open;
mod server;
mod storm;

use bench::load::{Answer, Outcome, Request, Work};
use bytes::Bytes;

/// Accepts 202, refuses 409, fails all else.
fn judge(answer: &Answer<'_>) -> Outcome {
    match answer.status {
        202 => Outcome::Accepted,
        409 => Outcome::Refused,
        _ => Outcome::Failed,
    }
}

/// The same request for ever.
fn always(request: Bytes) -> impl Work {
    (move || Some(Request::from(request.clone())), judge)
}

/// The same request so many times.
fn times(request: Bytes, mut count: u64) -> impl Work {
    let next = move || {
        count = count.checked_sub(1)?;
        Some(Request::from(request.clone()))
    };
    (next, judge)
}
