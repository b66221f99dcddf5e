//! Both programs, as their users run them, on real servers: the harness of the system tests.
//!
//! Owns: starting a whole system (a Redis of its own, a database and queues of its own on the shared
//! servers, gateways and workers as processes), faults (SIGKILL, an emptied Redis, a cut network),
//! patients and an admin who speak HTTP, the closing audit, and [`chaos`].
//!
//! Must never know: how the programs work inside. It judges as [`rush`] does, by the API's contract
//! and by what the three servers hold at rest.
//!
//! Invariants: a test ends with [`System::finish`], which audits; a system that was not audited
//! keeps its logs and says where they are. Nothing outlives the test, even if that is killed.
//!
//! Read first: [`System`], then [`Rush`], then `tests/system/`.

pub mod accounts;
pub mod admin;
pub mod audit;
pub mod chaos;
pub mod options;
pub mod person;
pub mod program;
pub mod reach;
pub mod rush_hour;
pub mod system;

pub use options::Options;
pub use person::Person;
pub use program::{Program, binary, command};
pub use rush_hour::{Manner, Rush, finish_all};
pub use system::System;

use std::time::Duration;

/// How long anything may take that should take a moment, on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);
