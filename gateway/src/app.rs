//! What every handler shares.

use std::ops::Deref;
use std::sync::Arc;

use booking::Clock;
use broker::Publisher;
use inventory::Inventory;
use ledger::Ledger;

use crate::auth::{Passwords, Patients, Sealer, Tokens};
use crate::catalogue::Catalogue;
use crate::settings::Settings;

/// The shared state of the gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App(Arc<Shared>);

/// What an [`App`] points to.
#[derive(Debug)]
pub struct Shared {
    /// As started.
    pub settings: Settings,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// PostgreSQL.
    pub ledger: Ledger,
    /// Redis.
    pub inventory: Inventory,
    /// RabbitMQ.
    pub publisher: Publisher,
    /// Access tokens.
    pub tokens: Tokens,
    /// Which patients accounts act for.
    pub patients: Patients,
    /// Passwords.
    pub passwords: Passwords,
    /// Personal data at rest.
    pub sealer: Sealer,
    /// What is on offer.
    pub catalogue: Catalogue,
}

impl App {
    /// Shares the parts.
    pub fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
