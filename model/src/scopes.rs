//! The worlds that are explored to the last state.

use crate::scope::{Budget, Scope, wish};

const NONE: Budget = Budget {
    prepares: 0,
    freezes: 0,
    relays: 0,
    cancels: 0,
    lapses: 0,
    withdrawals: 0,
    flushes: 0,
    restarts: 0,
    syncs: 0,
    failovers: 0,
    closes: 0,
    deaths: 0,
    queue_losses: 0,
    corruptions: 0,
    returns: 0,
    parkings: 0,
    silences: 0,
};

const PLAIN: Scope = Scope {
    name: "plain",
    about: "two patients, one place, the relay",
    capacity: [1, 0],
    wishes: &[wish(0, 0), wish(1, 0)],
    budget: Budget { relays: 1, ..NONE },
    reconcilers: 1,
    is_fine: false,
    envelopes: false,
    is_quick: true,
};

/// Every scope.
pub const ALL: &[Scope] = &[
    PLAIN,
    Scope {
        name: "flush",
        about: "FLUSHALL at any moment",
        budget: Budget { relays: 1, flushes: 1, prepares: 1, ..NONE },
        ..PLAIN
    },
    Scope {
        name: "failover",
        about: "a failover that loses its tail, the former primary still there",
        budget: Budget { relays: 1, syncs: 1, failovers: 1, prepares: 1, ..NONE },
        ..PLAIN
    },
];
