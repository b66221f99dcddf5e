//! Liveness and readiness.
use std::sync::Arc;
/// What a program says of itself on `/livez` and `/readyz`. Cheap to clone.
#[derive(Clone, Default)]
pub struct Health {}
impl Health {
    /// Adds a named readiness check; all must hold.
    pub fn check(&self, name: &'static str, is_ready: Arc<dyn Fn() -> bool + Send + Sync>) { unimplemented!() }
    /// Makes `/readyz` say no from now on: the program is stopping.
    pub fn stop(&self) { unimplemented!() }
}
