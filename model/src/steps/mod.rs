//! The steps of the protocol, each atomic, as functions on what they change.

pub mod redis;
pub mod sql;
