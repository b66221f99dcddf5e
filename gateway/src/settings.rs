//! Every setting of the gateway, with unit and default.

use std::net::SocketAddr;
use std::path::PathBuf;

use booking::PartitionCount;
use secrecy::SecretString;

use crate::auth;

/// The command line.
#[derive(Debug, clap::Parser)]
#[command(name = "gateway", version, about = "The HTTP program of Slotrush")]
pub struct Cli {
    /// What to do; serves if nothing is said.
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
    Migrate,
}

/// Settings, from flags or the environment.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// Where patients and admins connect (address:port)
    #[arg(long, env = "SLOTRUSH_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where operators connect: /livez, /readyz, /metrics (address:port)
    #[arg(long, env = "SLOTRUSH_ADMIN_LISTEN", default_value = "127.0.0.1:8081")]
    pub admin_listen: SocketAddr,
    /// Redis (URL)
    #[arg(
        long,
        env = "SLOTRUSH_REDIS_URL",
        hide_env_values = true,
        default_value = "redis://127.0.0.1:6379"
    )]
    pub redis_url: SecretString,
    /// RabbitMQ (URL)
    #[arg(
        long,
        env = "SLOTRUSH_AMQP_URL",
        hide_env_values = true,
        default_value = "amqp://127.0.0.1:5672/%2f"
    )]
    pub amqp_url: SecretString,
    /// PostgreSQL (URL)
    #[arg(
        long,
        env = "SLOTRUSH_DATABASE_URL",
        hide_env_values = true,
        default_value = "postgres://127.0.0.1/slotrush"
    )]
    pub database_url: SecretString,
    /// File with the Redis URL, instead of the setting itself
    #[arg(long, env = "SLOTRUSH_REDIS_URL_FILE")]
    pub redis_url_file: Option<PathBuf>,
    /// File with the RabbitMQ URL, instead of the setting itself
    #[arg(long, env = "SLOTRUSH_AMQP_URL_FILE")]
    pub amqp_url_file: Option<PathBuf>,
    /// File with the PostgreSQL URL, instead of the setting itself
    #[arg(long, env = "SLOTRUSH_DATABASE_URL_FILE")]
    pub database_url_file: Option<PathBuf>,
    /// First part of every queue's name
    #[arg(long, env = "SLOTRUSH_QUEUE_PREFIX", default_value = "slotrush")]
    pub queue_prefix: String,
    /// Partitions, fixed for the life of a database (1 to 64)
    #[arg(long, env = "SLOTRUSH_PARTITIONS", default_value = "4", value_parser = parse_partitions)]
    pub partitions: PartitionCount,
    /// Tokens and sealing.
    #[command(flatten)]
    pub auth: auth::Settings,
    /// Logs.
    #[command(flatten)]
    pub telemetry: service::telemetry::Settings,
}

fn parse_partitions(text: &str) -> Result<PartitionCount, String> {
    let count = text.parse().ok().and_then(PartitionCount::new);
    count.ok_or_else(|| "must be 1 to 64".to_owned())
}
