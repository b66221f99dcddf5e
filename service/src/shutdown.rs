//! Graceful stop.
use tokio_util::sync::CancellationToken;
/// Returns a token that is cancelled by SIGTERM or SIGINT; a second signal ends the process at once.
pub fn on_signal() -> CancellationToken { unimplemented!() }
