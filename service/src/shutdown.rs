//! Graceful stop.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a program that was told twice to stop.
const EXIT_IMPATIENT: i32 = 130;

/// Returns a token that is cancelled by SIGTERM or SIGINT; a second signal ends the process at once.
///
/// Must be called inside the runtime. Where signals cannot be caught the system's own way stays:
/// the first one ends the process.
pub fn on_signal() -> CancellationToken {
    let token = CancellationToken::new();
    match signals() {
        Ok(both) => drop(tokio::spawn(follow(both, token.clone()))),
        Err(error) => tracing::error!(%error, "signals are not caught: no graceful stop"),
    }
    token
}

fn signals() -> io::Result<(Signal, Signal)> {
    Ok((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
}

async fn follow((mut terminate, mut interrupt): (Signal, Signal), token: CancellationToken) {
    for is_first in [true, false] {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        if is_first {
            tracing::info!(signal = name, "stopping");
            token.cancel();
        } else {
            tracing::warn!(signal = name, "told again to stop: ending at once");
        }
    }
    std::process::exit(EXIT_IMPATIENT);
}
