//! What every program needs: settings, telemetry, shutdown, health. Does not know the word "booking".

pub mod admin;
pub mod health;
pub mod shutdown;
pub mod telemetry;

pub use health::Health;
