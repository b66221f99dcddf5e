//! The durable ledger in PostgreSQL. The only crate that speaks SQL.
//!
//! Owns: the pool, the migrations, and every step of the protocol that PostgreSQL takes. A step is
//! one function in `migrations/0002_steps.sql`, or in a later one that replaces it, called as one
//! autocommitted statement; the modules here turn arguments and answers into the domain's types and
//! nothing more.
//!
//! Must never know: Redis, AMQP, HTTP.
//!
//! Invariants: a slot never holds more than its capacity (a CHECK, so impossible rather than
//! unlikely); every booking id has at most one row, and it is final; quota moves between free,
//! escrowed and booked but is never made or lost. [`Ledger::audit`] looks for the contrary.
//!
//! A caller's future may be dropped at any time: what was asked then runs to its end all the same.
//!
//! Read first: [`persist`], then [`epoch`], then the SQL of the steps.

pub mod account;
pub mod audit;
pub mod audit_log;
pub mod booking_row;
pub mod catalogue;
pub mod changed;
mod column;
pub mod epoch;
mod gate;
pub mod grants;
pub mod imprint;
mod kept;
pub mod lease;
pub mod parked;
pub mod patient;
pub mod persist;
pub mod pool;
pub mod release;
mod run;
pub mod window;

pub use pool::{Error, Ledger, Settings};
