//! What every program needs: settings, telemetry, shutdown, health.
//!
//! Owns: how a setting is given and refused, where logs and metrics go, how a program says that it
//! lives and is ready, and how it is asked to stop.
//!
//! Must never know: what the programs are for. Nothing here names a thing of the domain.
//!
//! Read first: [`settings`], then [`admin`].

pub mod admin;
pub mod health;
mod interruption;
mod log_line;
mod log_lines;
pub mod open_files;
mod process;
pub mod settings;
pub mod shutdown;
pub mod telemetry;

pub use health::Health;
pub use interruption::Interruption;
