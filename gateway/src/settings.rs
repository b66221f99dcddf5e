//! Every setting of the gateway, with unit and default.

use std::net::SocketAddr;
use std::path::PathBuf;

use booking::PartitionCount;
use ledger::grants::RoleName;
use secrecy::SecretString;
use service::settings::{Addresses, Invalid, Stores};

use crate::{auth, limits, server};

/// The command line.
#[derive(Debug, clap::Parser)]
#[command(name = "gateway", version, about = "The HTTP program of Slotrush")]
pub struct Cli {
    /// What to do; serves if nothing is said
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The settings.
    #[command(flatten)]
    pub settings: Settings,
}

/// What the program can do besides serving.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Serve (the default)
    Serve,
    /// Print the OpenAPI document
    Openapi,
    /// Bring the database up to date
    Migrate(Roles),
    /// Declare the queues, with an account of RabbitMQ that may: for programs whose accounts may not
    DeclareQueues,
    /// Make the key that signs access tokens and the key that seals personal data
    Keygen {
        /// The folder they go in; what is there is never overwritten
        #[arg(long)]
        dir: PathBuf,
    },
    /// Make an account that may administer; its password comes from `SLOTRUSH_ADMIN_PASSWORD`,
    /// or else from the first line of the input
    CreateAdmin {
        /// 3 to 64 ASCII letters, digits and ._@+-
        #[arg(long)]
        login: String,
        /// Print the login and the account's id as one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Who the programs are in PostgreSQL, where they are not the owner of the tables.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(id = "roles")]
pub struct Roles {
    /// Role of the gateways: granted what they need, while everybody else is denied everything
    #[arg(long, env = "SLOTRUSH_GATEWAY_ROLE", value_name = "ROLE", requires = "worker_role")]
    pub gateway_role: Option<RoleName>,
    /// Role of the workers: likewise
    #[arg(long, env = "SLOTRUSH_WORKER_ROLE", value_name = "ROLE", requires = "gateway_role")]
    pub worker_role: Option<RoleName>,
}

/// Settings, from flags or the environment.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "gateway")]
pub struct Settings {
    /// Where patients and admins connect
    #[arg(
        long,
        env = "SLOTRUSH_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS:PORT"
    )]
    pub listen: SocketAddr,
    /// Where operators connect: /livez, /readyz, /metrics
    #[arg(
        long,
        env = "SLOTRUSH_ADMIN_LISTEN",
        default_value = "127.0.0.1:8081",
        value_name = "ADDRESS:PORT"
    )]
    pub admin_listen: SocketAddr,
    /// The three servers.
    #[command(flatten)]
    pub stores: Stores,
    /// Calls to them.
    #[command(flatten)]
    pub calls: Calls,
    /// Connections.
    #[command(flatten)]
    pub server: server::Settings,
    /// Limits.
    #[command(flatten)]
    pub limits: limits::Settings,
    /// Tokens and sealing.
    #[command(flatten)]
    pub auth: auth::Settings,
    /// Logs.
    #[command(flatten)]
    pub telemetry: service::telemetry::Settings,
}

/// Bounds on calls to the three servers.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "calls")]
#[command(next_help_heading = "Calls to the servers")]
pub struct Calls {
    /// Multiplexed connections to Redis
    #[arg(long, env = "SLOTRUSH_REDIS_CONNECTIONS", default_value_t = 2, value_name = "COUNT")]
    pub redis_connections: usize,
    /// How long Redis may take before the outcome of a call is unknown (ms)
    #[arg(long, env = "SLOTRUSH_REDIS_TIMEOUT_MS", default_value_t = 500, value_name = "MS")]
    pub redis_timeout_ms: u64,
    /// Connections to PostgreSQL at most
    #[arg(
        long,
        env = "SLOTRUSH_DATABASE_CONNECTIONS_MAX",
        default_value_t = 16,
        value_name = "COUNT"
    )]
    pub database_connections_max: u32,
    /// How long a statement of PostgreSQL may run (ms)
    #[arg(long, env = "SLOTRUSH_STATEMENT_TIMEOUT_MS", default_value_t = 3_000, value_name = "MS")]
    pub statement_timeout_ms: u64,
    /// Publishing channels per partition: a further one is used for a full message, or while the confirm of
    /// one takes long
    #[arg(long, env = "SLOTRUSH_PUBLISH_LANES", default_value_t = 8, value_name = "COUNT")]
    pub publish_lanes: usize,
    /// How long RabbitMQ may take to confirm before a booking is answered "pending" (ms)
    #[arg(long, env = "SLOTRUSH_CONFIRM_TIMEOUT_MS", default_value_t = 1_000, value_name = "MS")]
    pub confirm_timeout_ms: u64,
    /// Bookings waiting to be published, per partition, before more are answered 503
    #[arg(
        long,
        env = "SLOTRUSH_PUBLISH_WAITING_MAX",
        default_value_t = 8_192,
        value_name = "COUNT"
    )]
    pub publish_waiting_max: usize,
    /// How long the check of the epoch after a confirm may take before the answer is "pending" (ms)
    #[arg(long, env = "SLOTRUSH_EPOCH_CHECK_TIMEOUT_MS", default_value_t = 50, value_name = "MS")]
    pub epoch_check_timeout_ms: u64,
    /// Bookings on their way to the queue at once; more are answered 503, and so is what comes faster
    /// than it is carried for longer than a second
    #[arg(long, env = "SLOTRUSH_ADMISSIONS_MAX", default_value_t = 16_384, value_name = "COUNT")]
    pub admissions_max: usize,
    /// Bookings whose end may be waited for at once (long-poll, events); more are answered at once
    #[arg(long, env = "SLOTRUSH_WAITERS_MAX", default_value_t = 20_000, value_name = "COUNT")]
    pub waiters_max: usize,
}

impl Settings {
    /// Checks what can be checked without the servers, so that a wrong setting is told before a
    /// port opens.
    pub fn check(&self) -> anyhow::Result<()> {
        self.stores.addresses()?;
        self.partitions()?;
        auth::Tokens::load(&self.auth)?;
        auth::Sealer::load(&self.auth)?;
        Ok(())
    }

    /// Returns the number of partitions.
    pub fn partitions(&self) -> Result<PartitionCount, Invalid> {
        PartitionCount::new(self.stores.partitions)
            .ok_or_else(|| Invalid::new("SLOTRUSH_PARTITIONS", "expected 1 to 64"))
    }

    /// Puts together the settings of Redis.
    pub fn inventory(&self, addresses: &Addresses) -> inventory::Settings {
        inventory::Settings {
            url: addresses.redis.clone(),
            connections: self.calls.redis_connections,
            response_timeout_ms: self.calls.redis_timeout_ms,
        }
    }

    /// Puts together the settings of PostgreSQL.
    pub fn ledger(&self, addresses: &Addresses) -> ledger::Settings {
        self.ledger_at(addresses.database.clone())
    }

    /// Does so for a command that needs no other server.
    pub fn ledger_alone(&self) -> Result<ledger::Settings, Invalid> {
        Ok(self.ledger_at(self.stores.database()?))
    }

    fn ledger_at(&self, url: SecretString) -> ledger::Settings {
        ledger::Settings {
            url,
            connections_max: self.calls.database_connections_max,
            // A server that is down must be told of within two seconds.
            acquire_timeout_ms: (self.calls.statement_timeout_ms / 2).max(1),
            statement_timeout_ms: self.calls.statement_timeout_ms,
            application_name: "slotrush-gateway",
        }
    }

    /// Puts together the settings of RabbitMQ.
    pub fn broker(&self, addresses: &Addresses, partitions: PartitionCount) -> broker::Settings {
        self.broker_at(addresses.amqp.clone(), partitions)
    }

    /// Does so for a command that needs no other server.
    pub fn broker_alone(&self) -> Result<broker::Settings, Invalid> {
        Ok(self.broker_at(self.stores.amqp()?, self.partitions()?))
    }

    fn broker_at(&self, url: SecretString, partitions: PartitionCount) -> broker::Settings {
        broker::Settings {
            url,
            prefix: self.stores.queue_prefix.clone(),
            partitions,
            lanes: self.calls.publish_lanes,
            confirm_timeout_ms: self.calls.confirm_timeout_ms,
            waiting_max: self.calls.publish_waiting_max,
            // The gateway consumes nothing.
            prefetch: 1,
            batch_bookings_max: 1,
            batch_wait_ms: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn every_setting_has_its_variable_and_its_help() {
        Cli::command().debug_assert();
        for arg in Cli::command().get_arguments().filter(|arg| arg.get_long().is_some()) {
            let name = arg.get_id().as_str();
            if ["help", "version"].contains(&name) {
                continue;
            }
            let env = arg.get_env().unwrap_or_default().to_string_lossy().into_owned();
            assert_eq!(env, format!("SLOTRUSH_{}", name.to_uppercase()));
            assert!(arg.get_help().is_some(), "{name}");
        }
    }

    #[test]
    fn the_defaults_are_valid() {
        let cli = Cli::try_parse_from(["gateway"]).expect("defaults");
        assert!(cli.settings.partitions().is_ok());
    }
}
