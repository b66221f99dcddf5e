//! What the worker can be told.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use booking::PartitionCount;
use clap::Parser;
use service::settings::{Addresses, Invalid};

/// One part of the worker's job; each can run in a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Role {
    /// Makes published bookings durable.
    Consume,
    /// Pushes on what is stuck between Redis and PostgreSQL.
    Relay,
    /// Moves quota between PostgreSQL and Redis, and audits.
    Reconcile,
}

/// Persists bookings, carries on stuck ones, and keeps the quota in Redis true.
#[derive(Clone, Debug, Parser)]
#[command(name = "booking-worker", version)]
pub struct Settings {
    /// What this process does: any of `consume`, `relay` and `reconcile`, separated by commas
    #[arg(
        long,
        env = "SLOTRUSH_WORKER_ROLES",
        value_delimiter = ',',
        value_name = "ROLES",
        default_value = "consume,relay,reconcile"
    )]
    pub roles: Vec<Role>,
    /// Address of the admin port: `/livez`, `/readyz`, `/metrics`
    #[arg(long, env = "SLOTRUSH_WORKER_ADMIN_LISTEN", default_value = "127.0.0.1:8082")]
    pub admin_listen: SocketAddr,
    /// Threads of the runtime, 1 to 64
    #[arg(long, env = "SLOTRUSH_WORKER_THREADS", default_value_t = 2, value_name = "COUNT",
        value_parser = clap::value_parser!(u8).range(1..=64))]
    pub threads: u8,
    /// Connections to PostgreSQL at most, 2 to 200
    #[arg(long, env = "SLOTRUSH_WORKER_DATABASE_CONNECTIONS_MAX", default_value_t = 10,
        value_name = "COUNT", value_parser = clap::value_parser!(u32).range(2..=200))]
    pub database_connections_max: u32,
    /// Bookings made durable in one statement at most, 1 to 1000
    #[arg(long, env = "SLOTRUSH_BATCH_BOOKINGS_MAX", default_value_t = 400, value_name = "COUNT",
        value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub batch_bookings_max: u16,
    /// How long bookings are gathered for one statement, in ms, 0 to 1000
    #[arg(long, env = "SLOTRUSH_BATCH_WAIT_MS", default_value_t = 20, value_name = "MS",
        value_parser = clap::value_parser!(u64).range(0..=1000))]
    pub batch_wait_ms: u64,
    /// Unacknowledged envelopes per partition at most, 1 to 2000
    #[arg(long, env = "SLOTRUSH_PREFETCH", default_value_t = 250, value_name = "COUNT",
        value_parser = clap::value_parser!(u16).range(1..=2000))]
    pub prefetch: u16,
    /// How long RabbitMQ may take to confirm, in ms, 100 to 60000
    #[arg(long, env = "SLOTRUSH_WORKER_CONFIRM_TIMEOUT_MS", default_value_t = 5000,
        value_name = "MS", value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub confirm_timeout_ms: u64,
    /// Age at which an outbox entry counts as stuck, in ms, 100 to 60000
    #[arg(long, env = "SLOTRUSH_RELAY_AFTER_MS", default_value_t = 500, value_name = "MS",
        value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub relay_after_ms: u64,
    /// Pause between two walks through an outbox, in ms, 10 to 60000
    #[arg(long, env = "SLOTRUSH_RELAY_INTERVAL_MS", default_value_t = 250, value_name = "MS",
        value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub relay_interval_ms: u64,
    /// Pause between two rounds of the reconciler, in ms, 10 to 60000
    #[arg(long, env = "SLOTRUSH_RECONCILE_INTERVAL_MS", default_value_t = 250, value_name = "MS",
        value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub reconcile_interval_ms: u64,
    /// How long before it opens a release is preheated, in seconds, 0 to 86400
    #[arg(long, env = "SLOTRUSH_PREHEAT_LEAD_SECONDS", default_value_t = 600,
        value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub preheat_lead_seconds: u32,
    /// Pause between two audits of the invariants, in seconds, 1 to 3600
    #[arg(long, env = "SLOTRUSH_AUDIT_INTERVAL_SECONDS", default_value_t = 10,
        value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub audit_interval_seconds: u64,
    /// How much of the time an audit of many slots may work, in percent, 1 to 100
    #[arg(long, env = "SLOTRUSH_AUDIT_SHARE_PERCENT", default_value_t = 2,
        value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub audit_share_percent: u8,
    /// Where the servers are.
    #[command(flatten)]
    pub stores: service::settings::Stores,
    /// How to log.
    #[command(flatten)]
    pub telemetry: service::telemetry::Settings,
}

impl Settings {
    /// Checks what clap cannot; called before any port opens.
    pub fn check(&self) -> Result<Checked, Invalid> {
        let out_of_range = || Invalid::new("SLOTRUSH_PARTITIONS", "expected 1 to 64");
        let partitions = PartitionCount::new(self.stores.partitions).ok_or_else(out_of_range)?;
        let roles: BTreeSet<Role> = self.roles.iter().copied().collect();
        if roles.is_empty() {
            return Err(Invalid::new("SLOTRUSH_WORKER_ROLES", "expected at least one role"));
        }
        Ok(Checked { addresses: self.stores.addresses()?, partitions, roles })
    }

    pub(crate) fn ledger(&self, checked: &Checked) -> ledger::Settings {
        ledger::Settings {
            url: checked.addresses.database.clone(),
            connections_max: self.database_connections_max,
            // Short: a caller that waits in vain comes back by itself, and sooner after an outage.
            acquire_timeout_ms: 1000,
            statement_timeout_ms: 10_000,
            application_name: "booking-worker",
        }
    }

    pub(crate) fn inventory(checked: &Checked) -> inventory::Settings {
        inventory::Settings {
            url: checked.addresses.redis.clone(),
            connections: 1,
            response_timeout_ms: 2000,
        }
    }

    pub(crate) fn broker(&self, checked: &Checked) -> broker::Settings {
        broker::Settings {
            url: checked.addresses.amqp.clone(),
            prefix: self.stores.queue_prefix.clone(),
            partitions: checked.partitions,
            lanes: 1,
            confirm_timeout_ms: self.confirm_timeout_ms,
            waiting_max: 1024,
            prefetch: self.prefetch,
            batch_bookings_max: usize::from(self.batch_bookings_max),
            batch_wait_ms: self.batch_wait_ms,
        }
    }
}

/// Settings that were checked.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Where the servers are.
    pub addresses: Addresses,
    /// How many partitions there are.
    pub partitions: PartitionCount,
    /// What this process does.
    pub roles: BTreeSet<Role>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    const URLS: [&str; 4] = [
        "booking-worker",
        "--redis-url=redis://localhost",
        "--amqp-url=amqp://localhost",
        "--database-url=postgres://localhost/x",
    ];

    #[test]
    fn every_setting_has_a_variable_and_help_that_tells_its_range_or_form() {
        let command = Settings::command();
        command.clone().debug_assert();
        for arg in command.get_arguments().filter(|arg| arg.get_env().is_some()) {
            assert!(arg.get_help().is_some(), "{}", arg.get_id());
        }
    }

    #[test]
    fn all_roles_are_the_default_and_some_can_be_picked() {
        let all = Settings::try_parse_from(URLS).expect("defaults").check().expect("valid");
        assert_eq!(all.roles.len(), 3);
        let some = Settings::try_parse_from(URLS.iter().chain(&["--roles", "consume,relay"]));
        let roles = some.expect("parses").check().expect("valid").roles;
        assert_eq!(roles.into_iter().collect::<Vec<_>>(), [Role::Consume, Role::Relay]);
    }
}
