//! The durable ledger in PostgreSQL. The only crate that speaks SQL.

pub mod account;
pub mod audit;
pub mod audit_log;
pub mod booking_row;
pub mod catalogue;
pub mod epoch;
pub mod lease;
pub mod parked;
pub mod patient;
pub mod persist;
pub mod pool;
pub mod release;
mod run;

pub use pool::{Error, Ledger, Settings};
