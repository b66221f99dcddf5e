//! Bookings on the wire. The only crate that speaks AMQP.
//!
//! Owns: the queues and how they are declared, the publishing connection with its confirms, the
//! consuming connections with their verdicts, and the barriers that tell when a queue is drained.
//!
//! Must never know: SQL, Redis, HTTP, or what becomes of a booking. A handler decides over
//! messages; this crate acts.
//!
//! Invariants:
//! - One envelope is under way per channel; after an unknown outcome its channel is never used again.
//! - [`Published::Certain`] means: confirmed by a quorum queue, not returned, and certified *after*.
//! - A consumer acknowledges on the channel that delivered, after the verdict, and never rejects,
//!   requeues or cancels: it hands over by closing its channel.
//! - No part of lapin's own recovery is used: any fault drops the connection and builds another.
//!
//! Read first: [`Publisher`], then [`consume`], then the `wire` module.

mod backlog;
mod consumer;
mod courier;
mod delivered;
mod depths;
mod fault;
mod greeting;
mod lane;
mod link;
mod publisher;
mod settings;
mod tap;
mod topology;
mod wire;

pub use consumer::{consume, consume_parking};
pub use delivered::{Delivered, Handler, Verdict};
pub use depths::{Depths, NotDeclared, declare_queues, delete_queues, depths};
pub use link::Link;
pub use publisher::{Certify, Published, Publisher};
pub use settings::Settings;

/// Log targets to silence. The library beneath puts returned messages in its lines, payload and
/// all, and calls it an error when a channel ends that this crate ended itself.
pub const MUTED_LOG_TARGETS: [&str; 1] = ["lapin"];

/// RabbitMQ's answer did not come, or left the outcome open.
#[derive(Debug, thiserror::Error)]
#[error("the outcome is unknown")]
pub struct Unknown;
