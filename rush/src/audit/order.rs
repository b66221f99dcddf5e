//! I10 at one gateway: it never says less about a booking than it said before.
//!
//! Another gateway may know less, and says so. The same one remembers what it said, unless it was
//! restarted; and a promise whose place Redis forgot may be "pending" again.

use std::collections::BTreeMap;

use booking::BookingId;

use crate::answer::{Answer, Status};
use crate::history::{Event, Forgetful, Forgot};

use super::case::Case;

/// The bookings of which a gateway said less than before, each gateway and booking once.
pub(super) fn forgetful(case: &Case) -> Vec<String> {
    let mut told: BTreeMap<(u8, BookingId), Vec<(&Event, Status)>> = BTreeMap::new();
    for event in &case.history.events {
        if let (Some(gateway), Answer::Booking { id, status, .. }) = (event.gateway, &event.answer)
        {
            told.entry((gateway, *id)).or_default().push((event, *status));
        }
    }
    let mut found = Vec::new();
    for ((gateway, id), told) in told {
        let less = told.iter().find_map(|(later, less)| {
            let before = told.iter().find(|(earlier, more)| {
                earlier.answered_at < later.invoked_at
                    && rank(*more) > rank(*less)
                    && !is_excused(case, gateway, (earlier, *more), (later, *less))
            })?;
            Some((before.1, *less))
        });
        if let Some((before, now)) = less {
            let (before, now) = (before.as_str(), now.as_str());
            found.push(format!("gateway {gateway} said {before} of booking {id}, and then {now}"));
        }
    }
    found
}

/// How much a status says. The final ones that exclude each other are judged elsewhere.
const fn rank(status: Status) -> u8 {
    match status {
        Status::Pending => 0,
        Status::Queued => 1,
        Status::Booked | Status::Rejected => 2,
        Status::Cancelled => 3,
    }
}

/// Tells whether the gateway was restarted between the two, or Redis forgot what was only promised.
/// What was final stands in PostgreSQL, so Redis is no excuse for it.
fn is_excused(
    case: &Case,
    gateway: u8,
    (earlier, more): (&Event, Status),
    (later, _): (&Event, Status),
) -> bool {
    let lies_between =
        |forgot: &Forgot| forgot.from <= later.answered_at && forgot.until >= earlier.invoked_at;
    case.history.forgot.iter().filter(|forgot| lies_between(forgot)).any(|forgot| {
        match forgot.what {
            Forgetful::Gateway(number) => number == gateway,
            Forgetful::Redis => !more.is_final(),
        }
    })
}
