//! What this gateway finds of the invariants that are about what patients were told: no store has
//! that, so each gateway holds its answers, and the rows it reads, against what it remembers.
//!
//! - **I3** a booking that was promised and that no store has any more ([`crate::status::promises`]);
//! - **I4** a promised booking whose row says that it came too late;
//! - **I7** a live row of an attempt that was refused here, or of another wish than the one accepted
//!   here under its id;
//! - **I8** a key answered with another booking than the one it was told to stand for;
//! - **I10** a final answer that was unsaid.
//!
//! I3 is how many there are now; the others are counted from the start of the program. It sees its
//! own answers, of bookings it still remembers (ten minutes at least, unless there are too many).

use booking::BookingId;

/// Every invariant that is looked at here.
const CHECKED: [&str; 5] = ["I3", "I4", "I7", "I8", "I10"];

/// Shows each as 0, so that a clean one is not absent.
pub fn show() {
    for invariant in CHECKED {
        metrics::gauge!("slotrush_violations", "invariant" => invariant).increment(0.0);
    }
}

/// Counts one, and logs it.
pub fn count(invariant: &'static str, id: BookingId, detail: &'static str) {
    metrics::gauge!("slotrush_violations", "invariant" => invariant).increment(1.0);
    tracing::error!(invariant, booking_id = %id, detail, "an invariant is broken");
}

/// Shows how many there are now.
pub fn set(invariant: &'static str, now: u32) {
    metrics::gauge!("slotrush_violations", "invariant" => invariant).set(now);
}

/// Returns how many are shown; for tests, which share the recorder: compare before and after.
#[cfg(test)]
pub(crate) fn shown(invariant: &str) -> u32 {
    let metrics = service::telemetry::Metrics::install().render();
    let name = format!("slotrush_violations{{invariant=\"{invariant}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(name.as_str()));
    value.map_or(0, |value| value.parse().expect("a whole number"))
}
