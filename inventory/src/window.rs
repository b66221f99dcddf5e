//! Windows of releases.

use booking::{Partition, ReleaseId, UnixMs};

use crate::error::Error;
use crate::script::{Call, WINDOW};
use crate::step::parse_step;
use crate::{Inventory, keys};

/// A release's window, as judged inside the hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First instant of booking.
    pub opens_at: UnixMs,
    /// First instant after booking.
    pub closes_at: UnixMs,
    /// Held up by an admin.
    pub paused: bool,
    /// A lower version never replaces a higher one.
    pub version: u64,
}

impl Inventory {
    /// Sets a release's window in one partition.
    pub async fn set_window(
        &self,
        partition: Partition,
        release: ReleaseId,
        window: Window,
    ) -> Result<(), Error> {
        let call = Call::new(&WINDOW, &[keys::releases(partition)])
            .arg(release.get())
            .arg(window.version)
            .arg(window.opens_at.0)
            .arg(window.closes_at.0)
            .arg(u8::from(window.paused));
        parse_step(self.links.call_cold(&call).await?)?;
        Ok(())
    }
}
