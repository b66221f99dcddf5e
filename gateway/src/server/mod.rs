//! The door: accepting connections, deadlines on what comes in, and the way out.

pub mod body;
