//! Being told to stop.

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};

/// Comes true at Ctrl-C, SIGTERM or the end of the terminal. From its first call on, these no longer
/// end the process by themselves.
pub(crate) async fn interrupted() -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    Ok(())
}

/// Runs to the end or until told to stop, which is an error. The work is dropped then: what it had
/// started and not handed over ends with it.
pub(crate) async fn unless_interrupted<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        result = work => result,
        signal = interrupted() => {
            signal?;
            bail!("interrupted")
        }
    }
}
