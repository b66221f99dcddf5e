//! A clock that wakes on time.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// A timer of the kernel. The runtime's own rounds up to whole milliseconds, which would be most of the
/// latency of a fast server.
pub(super) struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    /// Makes one.
    #[expect(
        deprecated,
        reason = "its successor is unsafe; an owned file stays open while registered"
    )]
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self(AsyncFd::new(timer)?))
    }

    /// Waits until `at`, not at all if that is past.
    pub(super) async fn until(&self, at: Instant) -> io::Result<()> {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        // Setting it again also forgets that it rang, so nothing needs to be read.
        let value = timespec(left);
        let once = Itimerspec { it_interval: timespec(Duration::ZERO), it_value: value };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        loop {
            self.0.readable().await?.clear_ready();
            // A ring of before may have been told late.
            if Instant::now() >= at {
                return Ok(());
            }
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_never_wakes_early_and_can_be_used_again() {
        let timer = Timer::new().expect("made");
        for us in [300, 50, 2_000, 0, 700] {
            let at = Instant::now() + Duration::from_micros(us);
            timer.until(at).await.expect("woken");
            assert!(Instant::now() >= at);
        }
    }
}
