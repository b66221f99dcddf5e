//! What every handler shares.

use std::ops::Deref;
use std::sync::Arc;

use booking::{Clock, PartitionCount};
use broker::Publisher;
use inventory::Inventory;
use ledger::Ledger;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::facts::FactsCache;
use crate::admission::memory::Memory;
use crate::admission::offer::Offers;
use crate::admission::room::Room;
use crate::auth::{Passwords, Patients, Sealer, Tokens};
use crate::catalogue::Catalogue;
use crate::changes::Changes;
use crate::epochs::Epochs;
use crate::limits::Limits;
use crate::mint::Minter;
use crate::settings::Settings;
use crate::status::progress::Progress;
use crate::status::rows::Rows;
use crate::status::waiters::Waiters;
use crate::tally::Waits;

/// The shared state of the gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App(Arc<Shared>);

/// What an [`App`] points to.
#[derive(Debug)]
pub struct Shared {
    /// As started.
    pub settings: Settings,
    /// How many partitions there are.
    pub partitions: PartitionCount,
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
    /// The epochs as last seen.
    pub epochs: Arc<Epochs>,
    /// Booking ids.
    pub minter: Minter,
    /// What admission remembers.
    pub memory: Memory,
    /// What admission must know of sessions.
    pub facts: FactsCache,
    /// How long its waits take.
    pub waits: Waits,
    /// Why Redis does not know a slot.
    pub offers: Offers,
    /// Room for bookings on their way to the queue.
    pub room: Room,
    /// Work that outlives its request.
    pub tasks: TaskTracker,
    /// Rows of bookings, looked up many at once.
    pub rows: Rows,
    /// How far the ledger's changes are read.
    pub changes: Changes,
    /// Who waits for a final answer.
    pub waiters: Arc<Waiters>,
    /// How the queues move.
    pub progress: Progress,
    /// Limits on requests.
    pub limits: Arc<Limits>,
    /// Cancelled when the program stops.
    pub shutdown: CancellationToken,
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
