//! The pipeline measured beside the usual ways to book.
//!
//! Owns: three ways to put load on an HTTP/1.1 server ([`load::closed`] for throughput, [`load::open`]
//! for latency, [`load::storm`] for ten thousand at once), latencies by outcome ([`latency`]), ratios
//! with their intervals ([`stats`]) and what is wanted of each ([`ratios`]), everything that is measured
//! ([`world`]) and what is measured beside what ([`arms`]), and the report with its [`curves`].
//!
//! Must never know: how the programs work inside. It counts by the answers, by what PostgreSQL holds at
//! rest and by what the kernel says of processes.
//!
//! Invariants: every request ends in exactly one outcome or is counted as unsent; a latency runs from
//! the moment the request was meant to start, so a slow server can't hide behind waiting requests; the
//! generator tells its own processor time, because it shares the machine with what it measures; a round
//! whose books don't balance fails the run.
//!
//! Read first: [`arms`], then [`load`], then [`ratios`].

pub mod arms;
pub mod curves;
pub mod latency;
pub mod load;
pub mod ratios;
pub mod report;
pub mod run;
pub mod stats;
pub mod world;
