//! Load that can be believed, and what its figures come to.
//!
//! Owns: three ways to put load on an HTTP/1.1 server ([`load::closed`] for throughput, [`load::open`]
//! for latency, [`load::storm`] for ten thousand at once), latencies by outcome ([`latency`]), ratios
//! with their intervals and verdicts ([`stats`]), and curves ([`curves`]).
//!
//! Must never know: what a booking is. Requests come ready made and answers are judged elsewhere
//! ([`load::Work`]).
//!
//! Invariants: every request ends in exactly one outcome or is counted as unsent; a latency runs from
//! the moment the request was meant to start, so a slow server can't hide behind waiting requests; the
//! generator tells its own processor time, because it shares the machine with what it measures.
//!
//! Read first: [`load`], then [`load::open`], then [`stats`].

pub mod curves;
pub mod latency;
pub mod load;
pub mod stats;
