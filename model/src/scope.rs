//! How large a world is, and what may go wrong in it.

use crate::random::Random;
use crate::state::{REQUESTS_MAX, SLOTS_MAX};

/// What a client asks for. Its place in the scope is the id its own hold offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Who is to be seen.
    pub patient: u8,
    /// The idempotency key.
    pub key: u8,
    /// For which slot: the same key for another slot is another body.
    pub slot: u8,
    /// Whether the patient is over a limit, by what they hold elsewhere.
    pub over_limit: bool,
}

/// A wish for slot 0.
pub const fn wish(patient: u8, key: u8) -> Wish {
    Wish { patient, key, slot: 0, over_limit: false }
}

/// Declares the budgets once: field, and what each one is spent on.
macro_rules! budget {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// How often each thing that bounds the world may happen. A completion ignores it.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct Budget {
            $($(#[$doc])+ pub $name: u8,)+
        }

        impl Budget {
            /// Nothing of it.
            pub const NONE: Self = Self { $($name: 0,)+ };
            /// No bound.
            pub const ENDLESS: Self = Self { $($name: u8::MAX,)+ };

            /// As much of each as chance leaves: often nothing, so that worlds differ.
            #[must_use]
            pub fn thinned(mut self, random: &mut Random) -> Self {
                $(self.$name = u8::try_from(random.below(u64::from(self.$name) + 1)).unwrap_or(0);)+
                self
            }
        }
    };
}

budget! {
    /// R1.
    prepares,
    /// R6, planned.
    freezes,
    /// Y1.
    relays,
    /// C1.
    cancels,
    /// S1.
    lapses,
    /// The session is withdrawn.
    withdrawals,
    /// What is on offer is lowered by a place.
    lowerings,
    /// FLUSHALL.
    flushes,
    /// Redis restarts with its data.
    restarts,
    /// The replica catches up.
    syncs,
    /// The replica becomes the primary, with what it has.
    failovers,
    /// The channel closes, or the worker dies.
    closes,
    /// The channel closes and the broker puts what was in hand behind all other messages.
    scrambles,
    /// A reconciler dies between two steps.
    deaths,
    /// The queue loses everything.
    queue_losses,
    /// A message can't be read.
    corruptions,
    /// A message is returned though confirmed.
    returns,
    /// A booking is refused by the database for good, and parked.
    parkings,
    /// A statement says nothing of one of its bookings.
    silences,
}

/// A world to be explored.
#[expect(
    clippy::struct_excessive_bools,
    reason = "choices that have nothing to do with each other"
)]
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Places, by slot.
    pub capacity: [i8; SLOTS_MAX],
    /// Who asks for what.
    pub wishes: &'static [Wish],
    /// What may happen.
    pub budget: Budget,
    /// How many reconcilers there are.
    pub reconcilers: u8,
    /// Whether what is read and what is done upon it are separate steps where only a fault in
    /// between tells: R4 and R5, the look at the outbox and R9.
    pub is_fine: bool,
    /// Whether the second reconciler still speaks to the former primary.
    pub is_split: bool,
    /// Whether two bookings may share an envelope.
    pub envelopes: bool,
    /// Whether it is small enough for every test run.
    pub is_quick: bool,
}

impl Scope {
    /// Tells whether a request may only begin after the one before it, because the two can be
    /// exchanged for each other and the other order shows nothing new.
    pub fn waits_for_the_one_before(&self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1) else { return false };
        let (this, that) = (self.wishes[at], self.wishes[before]);
        let alone = |patient| self.wishes.iter().filter(|w| w.patient == patient).count() == 1;
        this == that
            || (this.slot == that.slot
                && this.over_limit == that.over_limit
                && alone(this.patient)
                && alone(that.patient))
    }

    /// Tells whoever wrote the scope that it does not fit the model.
    ///
    /// # Panics
    /// If it does not.
    pub fn assert_fits(&self) {
        assert!(self.wishes.len() <= REQUESTS_MAX, "{}: too many requests", self.name);
        assert!((1..=2).contains(&self.reconcilers), "{}: one or two reconcilers", self.name);
    }
}
