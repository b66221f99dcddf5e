//! The ledger's protocol as a pure model: gateways, relay, worker, reconcilers, Redis, the queue and
//! PostgreSQL, each step atomic.
//!
//! Owns: which steps there are and when each is possible, which faults strike, what must hold in every
//! state and after a fair completion, and what each guard is there for ([`Guards`], [`mutants`]).
//!
//! Must never know: sockets, time, the servers. The states and reasons of a booking, and the limits of
//! a patient, are the domain's own.
//!
//! Invariant: a state is a value, a step a function of it; nothing here depends on anything else.
//!
//! Read first: [`state`], then [`next`], then [`check`].

pub mod action;
mod admitting;
pub mod check;
pub mod cli;
pub mod complete;
mod consuming;
pub mod enabled;
pub mod explore;
pub mod guards;
pub mod list;
pub mod mutants;
pub mod next;
pub mod protocol;
pub mod random;
mod reconciling;
pub mod report;
pub mod scope;
pub mod scopes;
pub mod shrink;
pub mod state;
pub mod steps;
pub mod story;
pub mod walk;
pub mod walks;

pub use guards::Guards;
pub use protocol::Protocol;
