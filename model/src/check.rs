//! The invariants, as far as they can be told from a state.

use booking::Reason;

use crate::guards::Guards;
use crate::protocol::Protocol;
use crate::state::{EpochState, Node, Request, SLOTS_MAX, Shelf, State};
use crate::steps::redis::is_same;

/// The invariants of `docs/guarantees.md`, and three of the model's own.
pub const PROPERTIES: [(&str, &str); 14] = [
    ("I1", "live bookings of a slot are what booked counts, and never more than capacity"),
    ("I2", "escrowed is what unclosed epochs were granted and have not consumed"),
    ("I3", "every id answered queued reaches a final row"),
    ("I4", "an id answered queued is rejected only for reasons of its patient or session"),
    ("I5", "one live booking per patient and session, one that stands per key"),
    ("I6", "at rest what is on offer is booked or left to be sold, and nothing is free"),
    ("I7", "a refused attempt has no row"),
    ("I8", "a key that Redis knows gets no second id"),
    ("I9", "consumed is what has rows, and never more than granted; one epoch is open"),
    ("I10", "rows change by legal transitions only"),
    ("I11", "in a true ledger granted = left + sold, and at most PostgreSQL granted it"),
    ("KEPT", "a booking that never left the outbox is not rejected as late or lapsed"),
    ("CHECK", "no constraint ever has to refuse"),
    ("ENDS", "at rest every epoch but the current one is closed, and the current one sells"),
];

impl Protocol {
    /// Names the first invariant that this state breaks.
    pub fn broken(&self, state: &State) -> Option<&'static str> {
        let ghost = &state.ghost;
        let checks: [(&str, bool); 11] = [
            ("I1", self.places_are_counted(state)),
            ("I2", self.escrow_is_accounted(state)),
            ("I4", answers_are_kept(state)),
            ("I5", self.patients_are_live_once(state)),
            ("I7", refused_have_no_row(state)),
            ("I8", !ghost.key_twice),
            ("I9", self.consumed_has_rows(state)),
            ("I10", !ghost.illegal),
            ("I11", ledgers_conserve(state, &self.guards)),
            ("KEPT", !ghost.kept_lost),
            ("CHECK", !ghost.check_fired || !self.guards.checks),
        ];
        checks.iter().find(|(_, holds)| !holds).map(|(name, _)| *name)
    }

    fn places_are_counted(&self, state: &State) -> bool {
        (0_u8..).zip(0..SLOTS_MAX).all(|(slot, at)| {
            let rows = self.scope.wishes.iter().zip(&state.sql.rows);
            let live = rows
                .filter(|(wish, row)| {
                    wish.slot == slot && row.is_some_and(|row| row.state.is_live())
                })
                .count();
            let booked = state.sql.booked[at];
            i8::try_from(live) == Ok(booked) && booked <= self.scope.capacity[at]
        })
    }

    fn escrow_is_accounted(&self, state: &State) -> bool {
        (0..SLOTS_MAX).all(|slot| {
            let unclosed =
                state.sql.epochs.items().iter().filter(|row| row.state != EpochState::Closed);
            let due: i8 = unclosed.map(|row| row.granted[slot] - row.consumed[slot]).sum();
            let (booked, escrowed) = (state.sql.booked[slot], state.sql.escrowed[slot]);
            escrowed == due && escrowed >= 0 && booked + escrowed <= self.scope.capacity[slot]
        })
    }

    fn patients_are_live_once(&self, state: &State) -> bool {
        let rows: Vec<_> = self.scope.wishes.iter().zip(&state.sql.rows).collect();
        rows.iter().enumerate().all(|(at, (wish, row))| {
            let Some(row) = row else { return true };
            rows[at + 1..].iter().all(|(other, other_row)| {
                let Some(other_row) = other_row else { return true };
                if other.patient != wish.patient {
                    return true;
                }
                let stand = |row: &crate::state::Row| row.state != booking::State::Rejected;
                let both_live = row.state.is_live() && other_row.state.is_live();
                let one_key = other.key == wish.key && stand(row) && stand(other_row);
                !both_live && !one_key
            })
        })
    }

    fn consumed_has_rows(&self, state: &State) -> bool {
        let epochs = state.sql.epochs.items();
        let is_open = |row: &&crate::state::EpochRow| row.state == EpochState::Open;
        epochs.iter().filter(is_open).count() <= 1
            && (1_u8..).zip(epochs).all(|(e, epoch)| {
                (0_u8..).zip(0..SLOTS_MAX).all(|(slot, at)| {
                    let rows = self.scope.wishes.iter().zip(&state.sql.rows);
                    let is_counted = |(wish, row): &(&crate::scope::Wish, &Option<_>)| {
                        row.is_some_and(|row: crate::state::Row| {
                            let is_late = matches!(row.reason, Some(Reason::Late | Reason::Lapsed));
                            wish.slot == slot && row.e == e && !is_late
                        })
                    };
                    let used = rows.filter(is_counted).count();
                    i8::try_from(used) == Ok(epoch.consumed[at])
                        && epoch.consumed[at] <= epoch.granted[at]
                })
            })
    }
}

fn answers_are_kept(state: &State) -> bool {
    (0_u8..).zip(&state.sql.rows).all(|(id, row)| {
        let is_queued = state.ghost.queued & (1 << id) != 0;
        !is_queued || !matches!(row.and_then(|r| r.reason), Some(Reason::Late | Reason::Lapsed))
    })
}

fn refused_have_no_row(state: &State) -> bool {
    let pairs = state.requests.iter().zip(&state.sql.rows);
    pairs.into_iter().all(|(request, row)| *request != Request::Refused || row.is_none())
}

fn ledgers_conserve(state: &State, guards: &Guards) -> bool {
    let is_true = |node: &&Node| {
        node.data.head.is_some_and(|head| {
            node.is_primary && head.shelf != Shelf::Shell && is_same(head.term, node.term, guards)
        })
    };
    state.nodes.iter().filter(is_true).all(|node| {
        let Some(head) = node.data.head.filter(|head| head.e == node.data.stamp) else {
            return true;
        };
        let Some(row) = state.sql.epoch(head.e) else { return false };
        let is_meant = row.nonce == head.nonce && !row.frozen;
        node.data.slots.iter().zip(row.granted).all(|(count, granted)| {
            count.granted == count.left + count.sold
                && count.left >= 0
                && (!is_meant || count.granted <= granted)
        })
    })
}
