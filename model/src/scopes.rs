//! The worlds that are explored to the last state.

use crate::scope::{Budget, Scope, Wish, wish};

const NONE: Budget = Budget::NONE;

/// The smallest world. The others differ from it.
const PLAIN: Scope = Scope {
    name: "plain",
    about: "two patients, one place, the relay",
    capacity: [1, 0],
    wishes: &[wish(0, 0), wish(1, 0)],
    budget: Budget { relays: 1, ..NONE },
    reconcilers: 1,
    is_fine: false,
    is_split: false,
    envelopes: false,
    is_quick: true,
};

const SECOND_SLOT: Wish = Wish { slot: 1, ..wish(0, 0) };
const OVER_LIMIT: Wish = Wish { over_limit: true, ..wish(0, 0) };

/// Every scope.
pub const ALL: &[Scope] = &[
    PLAIN,
    Scope {
        name: "crowd",
        about: "three patients in one or two envelopes, two places, one over a limit",
        capacity: [2, 0],
        wishes: &[OVER_LIMIT, wish(1, 0), wish(2, 0)],
        envelopes: true,
        budget: Budget { relays: 1, closes: 1, silences: 1, ..NONE },
        is_quick: false,
        ..PLAIN
    },
    Scope {
        name: "limits",
        about: "a patient over a limit, a place for each, the channel closes",
        capacity: [2, 0],
        wishes: &[OVER_LIMIT, wish(1, 0)],
        envelopes: true,
        budget: Budget { relays: 1, closes: 1, ..NONE },
        ..PLAIN
    },
    Scope {
        name: "flush",
        about: "FLUSHALL at any moment",
        budget: Budget { relays: 1, flushes: 1, prepares: 1, closes: 2, ..NONE },
        ..PLAIN
    },
    Scope {
        name: "scrambled",
        about: "FLUSHALL, and a broker that puts what was in hand behind all other messages",
        budget: Budget { relays: 1, flushes: 1, prepares: 1, scrambles: 2, ..NONE },
        ..PLAIN
    },
    Scope {
        name: "silent",
        about: "the database says nothing of a booking, FLUSHALL",
        budget: Budget { relays: 1, flushes: 1, prepares: 1, silences: 1, ..NONE },
        ..PLAIN
    },
    Scope {
        name: "failover",
        about: "a failover that loses its tail, the former primary still there",
        budget: Budget { relays: 1, syncs: 1, failovers: 1, prepares: 1, ..NONE },
        ..PLAIN
    },
    Scope {
        name: "failback",
        about: "a failover there and back before anybody looks",
        budget: Budget { syncs: 1, failovers: 2, prepares: 1, ..NONE },
        ..PLAIN
    },
    Scope {
        name: "restart",
        about: "Redis restarts with its data, the channel closes, a reconciler dies",
        budget: Budget { relays: 1, restarts: 1, prepares: 2, closes: 1, deaths: 1, ..NONE },
        ..PLAIN
    },
    Scope {
        name: "retries",
        about: "one patient: a request, its repeat, another key, a cancel",
        wishes: &[wish(0, 0), wish(0, 0), wish(0, 1)],
        budget: Budget { relays: 1, cancels: 1, ..NONE },
        ..PLAIN
    },
    Scope {
        name: "bodies",
        about: "one key for two slots, a repeat, a cancel",
        capacity: [1, 1],
        wishes: &[wish(0, 0), SECOND_SLOT, wish(0, 0)],
        budget: Budget { relays: 1, cancels: 1, ..NONE },
        ..PLAIN
    },
    Scope {
        name: "retries-flush",
        about: "a request and its repeat over a FLUSHALL, cancelled or not",
        wishes: &[wish(0, 0), wish(0, 0)],
        budget: Budget { relays: 1, cancels: 1, flushes: 1, prepares: 1, lapses: 1, ..NONE },
        is_quick: false,
        ..PLAIN
    },
    Scope {
        name: "two-keys-flush",
        about: "two keys of one patient, both held because Redis forgot the first in the middle of a planned end",
        capacity: [2, 0],
        wishes: &[wish(0, 0), wish(0, 1)],
        budget: Budget { flushes: 2, freezes: 1, prepares: 1, ..NONE },
        ..PLAIN
    },
    Scope {
        name: "lapse",
        about: "a pending booking lapses, its key is tried again",
        wishes: &[wish(0, 0), wish(0, 0)],
        budget: Budget { flushes: 1, prepares: 1, lapses: 2, ..NONE },
        ..PLAIN
    },
    Scope {
        name: "freeze",
        about: "a planned end, taken up by another reconciler, with the relay",
        budget: Budget { relays: 1, freezes: 1, prepares: 2, deaths: 1, ..NONE },
        ..PLAIN
    },
    Scope {
        name: "lowered",
        about: "two places, one is taken off the offer while they sell, a cancel",
        capacity: [2, 0],
        budget: Budget { relays: 1, cancels: 1, lowerings: 1, prepares: 1, ..NONE },
        is_quick: false,
        ..PLAIN
    },
    Scope {
        name: "queue-lost",
        about: "the queue loses everything while Redis is sound; restarts and ends with data",
        budget: Budget { relays: 2, queue_losses: 1, restarts: 1, prepares: 1, ..NONE },
        ..PLAIN
    },
    Scope {
        name: "parked",
        about: "bookings parked for good or for being illegible, replayed over an epoch's end",
        budget: Budget { relays: 1, parkings: 1, flushes: 1, prepares: 1, ..NONE },
        ..PLAIN
    },
    Scope {
        name: "illegible",
        about: "messages that can't be read, Redis restarting with its data",
        budget: Budget { relays: 1, corruptions: 1, restarts: 1, prepares: 1, ..NONE },
        ..PLAIN
    },
    Scope {
        name: "returned",
        about: "a message returned by the broker, then FLUSHALL",
        budget: Budget { relays: 1, returns: 1, flushes: 1, prepares: 1, ..NONE },
        ..PLAIN
    },
    Scope {
        name: "withdrawn",
        about: "the session is withdrawn in the middle of it",
        budget: Budget { relays: 1, withdrawals: 1, restarts: 1, prepares: 1, ..NONE },
        ..PLAIN
    },
    Scope {
        name: "reconcilers",
        about: "two reconcilers, each reading and acting apart, over a FLUSHALL",
        reconcilers: 2,
        is_fine: true,
        budget: Budget { flushes: 1, prepares: 3, ..NONE },
        is_quick: false,
        ..PLAIN
    },
    Scope {
        name: "openers",
        about: "two reconcilers open the next epoch at once",
        wishes: &[wish(0, 0)],
        reconcilers: 2,
        budget: Budget { flushes: 1, prepares: 2, ..NONE },
        ..PLAIN
    },
    Scope {
        name: "top-ups",
        about: "two reconcilers grant what a cancel freed, each reading and applying apart",
        wishes: &[wish(0, 0), wish(0, 1)],
        reconcilers: 2,
        is_fine: true,
        budget: Budget { cancels: 1, ..NONE },
        ..PLAIN
    },
    Scope {
        name: "reconcilers-failover",
        about: "two reconcilers over a failover that loses its tail",
        reconcilers: 2,
        is_fine: true,
        budget: Budget { syncs: 1, failovers: 1, prepares: 3, ..NONE },
        is_quick: false,
        ..PLAIN
    },
    Scope {
        name: "split",
        about: "two primaries, a reconciler at each",
        reconcilers: 2,
        is_fine: true,
        is_split: true,
        budget: Budget { failovers: 1, prepares: 3, ..NONE },
        is_quick: false,
        ..PLAIN
    },
    Scope {
        name: "reconcilers-freeze",
        about: "two reconcilers, either ends the epoch as planned",
        reconcilers: 2,
        is_fine: true,
        budget: Budget { freezes: 1, prepares: 2, ..NONE },
        is_quick: false,
        ..PLAIN
    },
    Scope {
        name: "lapse-failover",
        about: "a pending booking lapses by what a former primary shows",
        wishes: &[wish(0, 0), wish(0, 0)],
        budget: Budget { syncs: 1, failovers: 1, prepares: 2, lapses: 2, ..NONE },
        is_quick: false,
        ..PLAIN
    },
    Scope {
        name: "freeze-failover",
        about: "a planned end and a failover that loses its tail",
        budget: Budget { freezes: 1, syncs: 1, failovers: 1, prepares: 2, ..NONE },
        is_quick: false,
        ..PLAIN
    },
    Scope {
        name: "failover-crowd",
        about: "three patients, two places, a failover that loses its tail",
        capacity: [2, 0],
        wishes: &[wish(0, 0), wish(1, 0), wish(2, 0)],
        budget: Budget { syncs: 1, failovers: 1, prepares: 1, ..NONE },
        is_quick: false,
        ..PLAIN
    },
    Scope {
        name: "failover-retries",
        about: "a patient who repeats, another patient, a failover that loses its tail",
        wishes: &[wish(0, 0), wish(0, 0), wish(1, 0)],
        budget: Budget { syncs: 1, failovers: 1, prepares: 1, ..NONE },
        is_quick: false,
        ..PLAIN
    },
];

/// What walks start from: more of everything. RabbitMQ loses messages only where Redis keeps its data,
/// because losing both is what the project excludes.
pub const WALKED: &[Scope] = &[
    Scope { name: "walk-redis", about: "Redis loses data", ..LARGE },
    Scope {
        name: "walk-queue",
        about: "the queue loses messages, or garbles them",
        budget: Budget {
            flushes: 0,
            failovers: 0,
            syncs: 0,
            queue_losses: 2,
            corruptions: 2,
            ..LARGE.budget
        },
        ..LARGE
    },
    Scope {
        name: "walk-split",
        about: "two primaries, a reconciler at each",
        is_split: true,
        ..LARGE
    },
];

const LARGE: Scope = Scope {
    capacity: [2, 1],
    wishes: &[
        wish(0, 0),
        wish(0, 0),
        Wish { slot: 1, ..wish(0, 1) },
        wish(1, 0),
        Wish { slot: 1, ..wish(1, 1) },
        wish(2, 0),
    ],
    budget: Budget {
        prepares: 6,
        freezes: 2,
        relays: 4,
        cancels: 3,
        lapses: 3,
        lowerings: 2,
        withdrawals: 1,
        flushes: 2,
        restarts: 2,
        syncs: 3,
        failovers: 2,
        closes: 3,
        scrambles: 2,
        deaths: 3,
        queue_losses: 0,
        corruptions: 0,
        returns: 2,
        parkings: 2,
        silences: 2,
    },
    reconcilers: 2,
    is_fine: true,
    envelopes: true,
    ..PLAIN
};
