//! The durable ledger in PostgreSQL. The only crate that speaks SQL.

pub mod audit;
pub mod booking_row;
pub mod epoch;
pub mod lease;
pub mod parked;
pub mod persist;
pub mod pool;

pub use pool::{Error, Ledger, Settings};
