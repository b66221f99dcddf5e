//! What may be done to the system, and which of it when, drawn from the seed.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Kind {
    /// SIGKILL to a gateway, which is started again
    GatewayKill,
    /// SIGSTOP to a gateway for a while
    GatewayPause,
    /// SIGKILL to a worker, which is started again
    WorkerKill,
    /// SIGSTOP to a worker for a while
    WorkerPause,
    /// SIGKILL to Redis, which comes back with its data
    RedisKill,
    /// SIGSTOP to Redis for a while
    RedisPause,
    /// FLUSHALL
    RedisFlush,
    /// SCRIPT FLUSH
    RedisScriptFlush,
    /// SIGKILL to Redis, which comes back empty
    RedisEmpty,
    /// Redis fails over to a replica that missed the last writes
    RedisFailover,
    /// Redis fails over, and one program stays with the old primary for a while
    RedisTwoPrimaries,
    /// Redis fails over and back to the first primary, which became a replica meanwhile
    RedisFailback,
    /// A gateway stands still while Redis fails over
    GatewayPastFailover,
    /// SIGKILL to RabbitMQ, which comes back with its data
    RabbitKill,
    /// SIGSTOP to RabbitMQ for a while
    RabbitPause,
    /// RabbitMQ blocks publishers, as when memory runs out
    RabbitAlarm,
    /// A bookings queue is deleted with all it holds; its consumer is cancelled
    RabbitQueueDeleted,
    /// RabbitMQ closes all connections
    RabbitCloses,
    /// PostgreSQL is restarted at once (SIGQUIT)
    PostgresRestart,
    /// All processes of PostgreSQL are killed, as when the power fails
    PostgresCrash,
    /// SIGSTOP to all processes of PostgreSQL for a while
    PostgresPause,
    /// Connections to PostgreSQL are cut after the request and before the answer
    PostgresAnswersLost,
    /// Latency on some edges
    NetSlow,
    /// Connections of some edges are reset
    NetReset,
    /// Connections of some edges are half-open: one side has lost them, the other is not told
    NetHalfOpen,
    /// Some edges carry one byte at a time
    NetSliced,
    /// Some edges are cut
    NetCut,
    /// Some edges carry nothing, with connections open
    NetStall,
    /// Some edges lose the answers and not the requests
    NetAnswersLost,
    /// Bookings are published a second time, late and in another order
    Duplicates,
    /// The clock of a program steps back, and is right again after a while
    ClockBack,
    /// The clock of a program steps ahead, and back again after a while
    ClockAhead,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// A part of the system; what is promised after its return is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    Gateway,
    Worker,
    Redis,
    Rabbit,
    Postgres,
    Network,
    Messages,
    Clock,
}

impl Kind {
    pub(super) const fn part(self) -> Part {
        match self {
            Self::GatewayKill | Self::GatewayPause => Part::Gateway,
            Self::WorkerKill | Self::WorkerPause => Part::Worker,
            Self::RedisKill
            | Self::RedisPause
            | Self::RedisFlush
            | Self::RedisScriptFlush
            | Self::RedisEmpty
            | Self::RedisFailover
            | Self::RedisTwoPrimaries
            | Self::RedisFailback
            | Self::GatewayPastFailover => Part::Redis,
            Self::RabbitKill
            | Self::RabbitPause
            | Self::RabbitAlarm
            | Self::RabbitQueueDeleted
            | Self::RabbitCloses => Part::Rabbit,
            Self::PostgresRestart
            | Self::PostgresCrash
            | Self::PostgresPause
            | Self::PostgresAnswersLost => Part::Postgres,
            Self::NetSlow
            | Self::NetReset
            | Self::NetHalfOpen
            | Self::NetSliced
            | Self::NetCut
            | Self::NetStall
            | Self::NetAnswersLost => Part::Network,
            Self::Duplicates => Part::Messages,
            Self::ClockBack | Self::ClockAhead => Part::Clock,
        }
    }

    /// Tells whether the part is back as soon as it was struck, with nothing to wait for.
    pub(super) const fn is_momentary(self) -> bool {
        matches!(
            self,
            Self::RedisFlush
                | Self::RedisScriptFlush
                | Self::RedisFailover
                | Self::RedisFailback
                | Self::RabbitQueueDeleted
                | Self::RabbitCloses
        )
    }

    /// Tells whether Redis forgets what it had acknowledged.
    pub(super) const fn empties_redis(self) -> bool {
        matches!(
            self,
            Self::RedisFlush
                | Self::RedisEmpty
                | Self::RedisFailover
                | Self::RedisTwoPrimaries
                | Self::RedisFailback
                | Self::GatewayPastFailover
        )
    }

    /// Tells whether a replica that missed writes is promoted.
    pub(super) const fn misses_writes(self) -> bool {
        matches!(self, Self::RedisFailover | Self::RedisTwoPrimaries | Self::GatewayPastFailover)
    }

    /// Tells whether another Redis process or primary sells afterwards, in a new epoch.
    pub(super) const fn renews_redis(self) -> bool {
        self.empties_redis() || matches!(self, Self::RedisKill)
    }

    /// Tells whether some of that is forgotten only when the fault ends.
    pub(super) const fn empties_redis_at_its_end(self) -> bool {
        matches!(self, Self::RedisEmpty | Self::RedisTwoPrimaries | Self::RedisFailback)
    }

    /// Tells whether the two would break what nobody promised: Redis *and* RabbitMQ losing
    /// bookings before they could reach PostgreSQL.
    fn excludes(self, other: Self) -> bool {
        let lose_both =
            |one: Self, two: Self| one == Self::RabbitQueueDeleted && two.empties_redis();
        lose_both(self, other) || lose_both(other, self)
    }
}

/// One fault at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strike {
    pub(super) kind: Kind,
    /// Which program, edge or partition, as far as there is a choice.
    pub(super) which: usize,
    /// How long it lasts.
    pub(super) lasts: Duration,
    /// How long the system was left alone before.
    pub(super) after: Duration,
}

/// Draws the strikes of one round after the other. Every kind comes before any comes again.
#[derive(Debug)]
pub(super) struct Drawer {
    rng: StdRng,
    kinds: Vec<Kind>,
    bag: Vec<Kind>,
    /// How long every strike lasts; else it is drawn.
    lasts: Option<Duration>,
}

/// Strikes of a round.
const STRIKES: usize = 4;
/// Two at once: one in this many.
const TWO_IN: u32 = 4;

impl Drawer {
    pub(super) fn new(seed: u64, kinds: Vec<Kind>, lasts: Option<Duration>) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), kinds, bag: Vec::new(), lasts }
    }

    /// Draws a round: what happens one after the other, and what of it at once.
    pub(super) fn round(&mut self) -> Vec<Vec<Strike>> {
        let mut all: Vec<Kind> = Vec::new();
        (0..STRIKES)
            .map(|_| {
                let first = self.kind(&all, None);
                all.extend(first);
                let is_double = self.rng.random_ratio(1, TWO_IN);
                let second =
                    first.filter(|_| is_double).and_then(|kind| self.kind(&all, Some(kind)));
                all.extend(second);
                first.into_iter().chain(second).map(|kind| self.strike(kind)).collect()
            })
            .filter(|strikes: &Vec<Strike>| !strikes.is_empty())
            .collect()
    }

    /// Takes the next kind out of the bag that goes with those of the round, and with one at once.
    fn kind(&mut self, round: &[Kind], beside: Option<Kind>) -> Option<Kind> {
        if self.bag.is_empty() {
            self.bag.clone_from(&self.kinds);
            self.bag.shuffle(&mut self.rng);
        }
        let fits = |kind: &Kind| {
            !round.iter().any(|other| kind.excludes(*other))
                && beside.is_none_or(|other| kind.part() != other.part())
        };
        let found = self.bag.iter().rposition(fits)?;
        Some(self.bag.remove(found))
    }

    fn strike(&mut self, kind: Kind) -> Strike {
        // Mostly short: a long one only lets more wait.
        let ms = match self.rng.random_range(0..100) {
            0..75 => self.rng.random_range(100..2_500),
            75..95 => self.rng.random_range(2_500..8_000),
            95..99 => self.rng.random_range(8_000..20_000),
            _ => self.rng.random_range(20_000..60_000),
        };
        // To sleep through a failover takes as long as one: seal, open, drain, close.
        let ms = if kind == Kind::GatewayPastFailover { ms + 3_000 } else { ms };
        Strike {
            kind,
            which: self.rng.random_range(0..1_000),
            lasts: self.lasts.unwrap_or(Duration::from_millis(ms)),
            after: Duration::from_millis(self.rng.random_range(300..2_000)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(seed: u64) -> Vec<String> {
        let mut drawer = Drawer::new(seed, Kind::value_variants().to_vec(), None);
        let rounds = (0..20).flat_map(|_| drawer.round());
        rounds.flatten().map(|strike| format!("{} {:?}", strike.kind, strike.lasts)).collect()
    }

    #[test]
    fn a_seed_draws_the_same_faults_again_and_another_seed_others() {
        assert_eq!(names(1), names(1));
        assert_ne!(names(1), names(2));
    }

    #[test]
    fn redis_and_a_queue_never_lose_bookings_in_one_round() {
        let mut drawer = Drawer::new(7, Kind::value_variants().to_vec(), None);
        for _ in 0..200 {
            let kinds: Vec<_> = drawer.round().into_iter().flatten().map(|s| s.kind).collect();
            let is_queue_lost = kinds.contains(&Kind::RabbitQueueDeleted);
            assert!(!(is_queue_lost && kinds.iter().any(|kind| kind.empties_redis())), "{kinds:?}");
        }
    }
}
