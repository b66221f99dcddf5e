//! The steps Redis takes, as the scripts in `scripts/lua/` take them.

use crate::guards::Guards;
use crate::scope::Wish;
use crate::state::{Count, Head, Node, SLOTS_MAX, Shelf, Term, Who};

/// What came of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// A place is set aside.
    Held {
        /// The ledger's epoch.
        e: u8,
    },
    /// The same request came before.
    Replayed {
        /// The first answer's id.
        id: u8,
    },
    /// Key with another body, a live booking under another key, or sold out: final for the attempt.
    Refused,
    /// Shut, fenced or not preheated: try again.
    NotNow,
}

/// Compares terms as far as the guards do.
pub fn is_same(a: Term, b: Term, guards: &Guards) -> bool {
    (a.run == b.run || !guards.fence_run_id) && (a.replid == b.replid || !guards.fence_replid)
}

impl Node {
    fn is_own(&self, head: Head, guards: &Guards) -> bool {
        self.is_primary && is_same(self.term, head.term, guards)
    }

    /// G1: takes a place under `id`. `wishes` tells what the patient's first booking was.
    pub fn hold(&mut self, id: u8, wishes: &[Wish], guards: &Guards) -> Hold {
        let wish = wishes[usize::from(id)];
        let Some(head) = self.data.head.filter(|head| head.shelf == Shelf::Open) else {
            return Hold::NotNow;
        };
        let known = self.data.who[usize::from(wish.patient)].filter(|_| guards.hold_replays);
        if let Some(known) = known {
            let first = wishes[usize::from(known.id)];
            if first.key == wish.key && first.slot == wish.slot {
                return Hold::Replayed { id: known.id };
            }
            if first.key == wish.key || known.live {
                return Hold::Refused;
            }
        }
        if self.data.stamp != head.e {
            return Hold::NotNow;
        }
        let count = &mut self.data.slots[usize::from(wish.slot)];
        if count.left <= 0 {
            return Hold::Refused;
        }
        if guards.fence_hold && !(self.is_primary && is_same(self.term, head.term, guards)) {
            return Hold::NotNow;
        }
        count.left -= 1;
        count.sold += 1;
        self.data.who[usize::from(wish.patient)] = Some(Who { id, live: true });
        self.data.out[usize::from(id)] = head.e;
        Hold::Held { e: head.e }
    }

    /// R1: puts a shell where the ledger is missing, untrue, behind or sealed; false if not needed.
    pub fn prepare(&mut self, nonce: u8, current: u8, sealed: bool, guards: &Guards) -> bool {
        if !self.is_primary {
            return false;
        }
        let is_good = |head: Head| {
            head.shelf != Shelf::Shell
                && is_same(head.term, self.term, guards)
                && (head.e > current || (head.e == current && !sealed))
        };
        if self.data.head.is_some_and(is_good) {
            return false;
        }
        let e = self.data.head.map_or(0, |head| head.e);
        self.data.head = Some(Head { e, shelf: Shelf::Shell, term: self.term, nonce });
        true
    }

    /// R3: opens the shell of this nonce.
    pub fn open(&mut self, e: u8, term: Term, nonce: u8, guards: &Guards) -> bool {
        if !self.is_primary || !is_same(self.term, term, guards) {
            return false;
        }
        let fresh = Head { e, shelf: Shelf::Open, term, nonce };
        match self.data.head {
            None if !guards.open_needs_shell => {
                self.data.head = Some(fresh);
                true
            }
            Some(head) if head.nonce == nonce && head.shelf == Shelf::Shell => {
                self.data.head = Some(Head { term: head.term, ..fresh });
                true
            }
            Some(head) => head.nonce == nonce && head.shelf == Shelf::Open && head.e == e,
            None => false,
        }
    }

    /// R5: raises the grants and fills in who holds a live booking, `live` being a mask of ids.
    pub fn apply(
        &mut self,
        (e, nonce): (u8, u8),
        granted: [i8; SLOTS_MAX],
        live: u8,
        wishes: &[Wish],
        guards: &Guards,
    ) -> bool {
        let is_meant = |head: Head| {
            head.e == e
                && head.nonce == nonce
                && head.shelf == Shelf::Open
                && self.is_own(head, guards)
        };
        if !self.data.head.is_some_and(is_meant) {
            return false;
        }
        if self.data.stamp != e {
            self.data.stamp = e;
            self.data.slots = [Count::default(); SLOTS_MAX];
        }
        for (count, granted) in self.data.slots.iter_mut().zip(granted) {
            let more = if guards.grants_cumulative { granted - count.granted } else { granted };
            if more > 0 {
                count.left += more;
                count.granted += more;
            }
        }
        for (id, wish) in (0_u8..).zip(wishes).filter(|(id, _)| live & (1 << id) != 0) {
            let known = &mut self.data.who[usize::from(wish.patient)];
            if known.is_none_or(|known| !known.live && known.id != id) {
                *known = Some(Who { id, live: true });
            }
        }
        true
    }

    /// R6: shuts the true ledger for good and tells what it sold.
    pub fn freeze(&mut self, e: u8, nonce: u8, guards: &Guards) -> Option<[i8; SLOTS_MAX]> {
        let head = self.data.head.filter(|head| {
            head.e == e
                && head.nonce == nonce
                && head.shelf != Shelf::Shell
                && self.is_own(*head, guards)
        })?;
        self.data.head = Some(Head { shelf: Shelf::Frozen, ..head });
        let sold = |slot: usize| if self.data.stamp == e { self.data.slots[slot].sold } else { 0 };
        Some([sold(0), sold(1)])
    }

    /// W4: takes a booking that has its row out of the outbox and notes whether it is live.
    pub fn settle(&mut self, id: u8, live: bool, wishes: &[Wish], guards: &Guards) {
        self.data.out[usize::from(id)] = 0;
        let known = &mut self.data.who[usize::from(wishes[usize::from(id)].patient)];
        let entry = Some(Who { id, live });
        match *known {
            None => *known = entry,
            Some(old) if old.id == id && !live => *known = Some(Who { live, ..old }),
            Some(old) if old.id != id && live && !old.live => *known = entry,
            Some(_) => {}
        }
        if !live && !guards.key_kept && known.is_some_and(|known| known.id == id) {
            *known = None;
        }
    }

    /// Tells whether the ledger here is the one PostgreSQL means: this epoch, nonce and term.
    pub fn is_true(&self, (e, nonce, term): (u8, u8, Term), guards: &Guards) -> bool {
        self.data.head.is_some_and(|head| {
            head.e == e
                && head.nonce == nonce
                && is_same(head.term, term, guards)
                && is_same(self.term, term, guards)
        })
    }
}
