//! Refusals known for a slot: millions of losers are answered from here, without a word to Redis.
//!
//! A refusal is good for half a second. After that one request is let through to ask again while
//! the others still get the remembered answer, so a returned place is sold within a second and an
//! exhausted slot costs Redis a few calls a second, however many ask.

use std::time::Duration;

use booking::{SlotId, UnixMs};
use tokio::time::Instant;

use crate::recent::Recent;

/// Why a slot sells nothing now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No quota is left.
    SoldOut,
    /// Its release opens then.
    NotOpen {
        /// First instant of booking.
        opens_at: UnixMs,
    },
    /// Its release is paused.
    Paused,
    /// Its release is over.
    Closed,
    /// It has begun.
    Begun,
    /// It is in no release, or in one that should be on offer and is not set aside.
    NotPreheated,
}

impl Refusal {
    /// Tells whether someone may hold a booking of the slot all the same, and must be answered it.
    pub const fn may_have_winners(self) -> bool {
        match self {
            Self::SoldOut | Self::Paused | Self::Closed | Self::Begun => true,
            Self::NotOpen { .. } | Self::NotPreheated => false,
        }
    }
}

/// A remembered refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The refusal.
    pub refusal: Refusal,
    /// Since when it has held without a break, as far as known here.
    pub since: Instant,
    /// Not when Redis's answer was read: a program that stood still reads it late.
    asked_at: Instant,
    good_until: Instant,
}

const GOOD_FOR: Duration = Duration::from_millis(400);
/// How long the others wait for the one that asks again.
const ASK_AGAIN_EVERY: Duration = Duration::from_millis(100);
/// How long a refusal may be given after Redis was asked for it last. Who asks again while Redis is silent
/// gets no answer, and a place sold meanwhile through another gateway must not be denied for as long.
pub const STALE_AFTER: Duration = Duration::from_secs(1);
/// How long before its opening a slot is asked for again.
const OPENING_MARGIN_MS: i64 = 20;

/// The refusals known to this gateway.
#[derive(Debug)]
pub struct Refusals(Recent<SlotId, Known>);

impl Refusals {
    /// Starts knowing nothing; remembers at most `slots_max` slots.
    pub fn new(slots_max: usize) -> Self {
        Self(Recent::new(Duration::from_mins(1), slots_max))
    }

    /// Returns the refusal known for a slot; `None` if Redis is to be asked, by this caller.
    pub fn find(&self, slot: SlotId, now: UnixMs) -> Option<Known> {
        self.find_at(slot, now, Instant::now())
    }

    fn find_at(&self, slot: SlotId, now: UnixMs, at: Instant) -> Option<Known> {
        let known = self.0.get(&slot)?;
        if let Refusal::NotOpen { opens_at } = known.refusal
            && now.plus_ms(OPENING_MARGIN_MS) >= opens_at
        {
            return None;
        }
        if at >= known.asked_at + STALE_AFTER {
            return None;
        }
        if at < known.good_until {
            return Some(known);
        }
        self.0.update(&slot, |entry| match entry {
            // Somebody else took the turn to ask between the look and the lock.
            Some(entry) if at < entry.good_until => Some(*entry),
            Some(entry) => {
                entry.good_until = at + ASK_AGAIN_EVERY;
                None
            }
            None => None,
        })
    }

    /// Notes that Redis, asked at this time, refused. Returns whether this is news.
    pub fn note(&self, slot: SlotId, refusal: Refusal, asked_at: Instant) -> bool {
        let now = Instant::now();
        self.0.update(&slot, |entry| {
            let before = entry.filter(|known| known.refusal == refusal);
            let since = before.map_or(now, |known| known.since);
            let asked_at = before.map_or(asked_at, |known| known.asked_at.max(asked_at));
            *entry = Some(Known { refusal, since, asked_at, good_until: now + GOOD_FOR });
            before.is_none()
        })
    }

    /// Notes that the slot sold a place, or may again.
    pub fn forget(&self, slot: SlotId) {
        if self.0.get(&slot).is_some() {
            self.0.update(&slot, |entry| *entry = None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_its_time_one_asks_again_and_the_others_get_the_old_answer() {
        let refusals = Refusals::new(100);
        assert!(refusals.note(slot(), Refusal::SoldOut, Instant::now()));
        assert!(refusals.find(slot(), UnixMs(0)).is_some());
        let later = Instant::now() + GOOD_FOR;
        assert_eq!(refusals.find_at(slot(), UnixMs(0), later), None);
        assert!(refusals.find_at(slot(), UnixMs(0), later).is_some());
        assert!(!refusals.note(slot(), Refusal::SoldOut, Instant::now()));
    }

    #[test]
    fn a_refusal_that_redis_does_not_confirm_any_more_is_not_given_for_long() {
        let refusals = Refusals::new(100);
        refusals.note(slot(), Refusal::SoldOut, Instant::now());
        let noted = Instant::now();
        assert_eq!(refusals.find_at(slot(), UnixMs(0), noted + GOOD_FOR), None);
        let soon = noted + GOOD_FOR + ASK_AGAIN_EVERY / 2;
        assert!(refusals.find_at(slot(), UnixMs(0), soon).is_some());
        for _ in 0..3 {
            assert_eq!(refusals.find_at(slot(), UnixMs(0), noted + STALE_AFTER), None);
        }
    }

    /// The race: the gateway stands still between Redis's refusal and reading it, and meanwhile the place
    /// comes back and is sold through another gateway.
    #[test]
    fn a_refusal_that_was_read_late_is_as_old_as_the_question() {
        let refusals = Refusals::new(100);
        let asked_at = Instant::now();
        refusals.note(slot(), Refusal::SoldOut, asked_at);
        let known = refusals.0.get(&slot()).expect("noted");
        assert_eq!(known.asked_at, asked_at);
        // An answer that overtook it makes it no older.
        refusals.note(slot(), Refusal::SoldOut, asked_at - GOOD_FOR);
        assert_eq!(refusals.0.get(&slot()).expect("noted").asked_at, asked_at);
        refusals.forget(slot());
        refusals.note(slot(), Refusal::SoldOut, Instant::now() - STALE_AFTER);
        assert_eq!(refusals.find(slot(), UnixMs(0)), None);
    }

    #[test]
    fn the_opening_is_not_missed() {
        let refusals = Refusals::new(100);
        let refusal = Refusal::NotOpen { opens_at: UnixMs(1_000) };
        refusals.note(slot(), refusal, Instant::now());
        assert!(refusals.find(slot(), UnixMs(979)).is_some());
        assert_eq!(refusals.find(slot(), UnixMs(980)), None);
        assert_eq!(refusals.find(slot(), UnixMs(1_000)), None);
    }

    #[test]
    fn a_sale_opens_the_slot_for_all() {
        let refusals = Refusals::new(100);
        refusals.note(slot(), Refusal::SoldOut, Instant::now());
        refusals.forget(slot());
        assert_eq!(refusals.find(slot(), UnixMs(0)), None);
        assert_eq!(refusals.find(slot(), UnixMs(0)), None);
    }

    fn slot() -> SlotId {
        SlotId::from(256)
    }
}
