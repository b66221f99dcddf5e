//! Quota in Redis, behind typed calls. The only crate that speaks Redis.
//!
//! Owns: the names of keys, the Lua scripts (compiled in from `scripts/lua`), the supervised
//! connections, and the ledger of each partition: what PostgreSQL granted it, what it sold, who
//! holds a place, and the outbox of bookings not yet durable.
//!
//! Must never know: SQL, AMQP, HTTP, or what becomes of a booking after it was held.
//!
//! Invariants: on the true ledger `granted = left + sold` for every slot; only a ledger whose
//! term is the server's own sells; a ledger is opened once and never opened again after it was
//! frozen; every script is idempotent. Redis may be lost at any moment without harm: nothing here
//! is the truth, PostgreSQL's escrow is.
//!
//! Expected answers are values. An [`Error`] says only how much is known of a call that got no
//! answer, and [`Error::Unknown`] means what it says: nothing here is ever sent twice, except a
//! script that the server did not know and thus did not run.
//!
//! Read first: `scripts/lua/hold.lua`, then [`Inventory::hold`] and `lane.rs`, then [`Inventory::prepare`].

mod count;
mod error;
mod hold;
mod inspection;
mod keys;
mod known;
mod lane;
mod link;
mod links;
mod outbox;
mod packed;
mod reply;
mod script;
mod step;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;
use std::time::Duration;

pub use count::SlotCount;
pub use error::Error;
pub use hold::Hold;
pub use inspection::{Inspection, LedgerHead};
pub use known::Known;
pub use links::Settings;
pub use outbox::Outbox;
pub use step::{Grant, Prepared, Step};
pub use window::Window;

/// Handles to Redis. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Inventory {
    links: Arc<links::Links>,
    lanes: Arc<lane::Lanes>,
}

impl Inventory {
    /// Starts the supervised connections and returns at once; calls answer
    /// [`Error::Unavailable`] until they stand. Fails only on a malformed address.
    ///
    /// Must be called inside a Tokio runtime. The connections end with the last clone.
    pub fn start(settings: &Settings) -> Result<Self, Error> {
        let links = Arc::new(links::Links::start(settings)?);
        let silent_max = Duration::from_millis(settings.response_timeout_ms);
        let lanes = Arc::new(lane::Lanes::new(Arc::clone(&links), silent_max));
        Ok(Self { links, lanes })
    }

    /// Tells whether a primary Redis answers now: at least one connection stands, and its last
    /// probe (every 500 ms) found a primary.
    pub fn is_up(&self) -> bool {
        self.links.is_up()
    }

    /// Asks Redis for a sign of life.
    pub async fn ping(&self) -> Result<(), Error> {
        self.links.query_hot(&redis::cmd("PING")).await
    }
}
