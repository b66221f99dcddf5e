//! What the programs of this crate are told.

use std::path::PathBuf;

use booking::PartitionCount;
use clap::{Args, Parser, Subcommand};
use secrecy::SecretString;
use url::Url;

use crate::schedule::Manners;

/// A crowd of patients for a release, what it was told, and the audit of it.
#[derive(Debug, Parser)]
#[command(name = "rush", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prepare a release, let the crowd rush for it, audit and report
    Run(Box<RunArgs>),
    /// Prepare a release and write the crowd's tokens for another load tool
    Data(Box<DataArgs>),
    /// Audit a release prepared before
    Audit(Box<AuditArgs>),
    /// Register a patient, put a few places on offer and print how to book one by hand
    Example(Box<ExampleArgs>),
}

/// A running system.
#[derive(Clone, Debug, Args)]
pub struct Target {
    /// The gateway's address
    #[arg(long, env = "SLOTRUSH_GATEWAY_URL", default_value = "http://127.0.0.1:8080")]
    pub gateway: Url,
    /// PostgreSQL
    #[arg(long, env = "SLOTRUSH_DATABASE_URL", hide_env_values = true)]
    pub database_url: SecretString,
    /// Redis
    #[arg(long, env = "SLOTRUSH_REDIS_URL", hide_env_values = true)]
    pub redis_url: SecretString,
    /// RabbitMQ
    #[arg(long, env = "SLOTRUSH_AMQP_URL", hide_env_values = true)]
    pub amqp_url: SecretString,
    /// First part of the queues' names
    #[arg(long, env = "SLOTRUSH_QUEUE_PREFIX", default_value = "slotrush")]
    pub queue_prefix: String,
    /// Partitions of the deployment
    #[arg(long, env = "SLOTRUSH_PARTITIONS", default_value = "4", value_parser = partitions)]
    pub partitions: PartitionCount,
}

/// Who prepares, and what is prepared.
#[derive(Clone, Debug, Args)]
pub struct Preparation {
    /// Login of an admin
    #[arg(long, env = "SLOTRUSH_ADMIN_LOGIN", default_value = "admin")]
    pub admin_login: String,
    /// The admin's password
    #[arg(long, env = "SLOTRUSH_ADMIN_PASSWORD", hide_env_values = true)]
    pub admin_password: SecretString,
    /// Places on offer
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub places: u32,
    /// Sessions the places are spread over [fewer where there are fewer places]
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub sessions: u32,
    /// Slots of each session
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub slots_per_session: u32,
    /// How long before its opening the release is prepared, ms
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1_000..=86_400_000))]
    pub lead_ms: u32,
}

/// Who comes.
#[derive(Clone, Debug, Args)]
pub struct Crowd {
    /// The gateway's token key: the crowd's tokens are signed here, not fetched one by one
    #[arg(long, env = "SLOTRUSH_TOKEN_KEY_FILE")]
    pub token_key_file: PathBuf,
    /// Patients in the crowd, each with an account of their own
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub patients: u32,
}

/// Where reports go and how long the audit waits.
#[derive(Clone, Debug, Args)]
pub struct Reporting {
    /// Print the report as one JSON object on the last line
    #[arg(long)]
    pub json: bool,
    /// Redis is lost during the rush: a key may then stand for two bookings, one of them rejected
    #[arg(long)]
    pub redis_lost: bool,
    /// How long the system may take to come to rest, s
    #[arg(long, default_value_t = 60)]
    pub settle_s: u64,
}

/// `rush run`
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Where.
    #[command(flatten)]
    pub target: Target,
    /// What.
    #[command(flatten)]
    pub preparation: Preparation,
    /// Who.
    #[command(flatten)]
    pub crowd: Crowd,
    /// How.
    #[command(flatten)]
    pub manners: Manners,
    /// And then.
    #[command(flatten)]
    pub reporting: Reporting,
    /// Keep-alive connections that ask for bookings; as many again wait for answers
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=8_192))]
    pub connections: u32,
    /// How long one request may take, s
    #[arg(long, default_value_t = 30)]
    pub request_timeout_s: u64,
    /// How long after the opening the last patient gives up, s
    #[arg(long, default_value_t = 120)]
    pub patience_s: u64,
    /// Write everything asked and answered to this file, one JSON object per line
    #[arg(long)]
    pub history: Option<PathBuf>,
    /// Keep the number of patients who got a first answer in this file
    #[arg(long)]
    pub counter_file: Option<PathBuf>,
    /// Seed of the crowd's behaviour, to see the same crowd again
    #[arg(long)]
    pub seed: Option<u64>,
}

/// `rush data`
#[derive(Clone, Debug, Args)]
pub struct DataArgs {
    /// Where.
    #[command(flatten)]
    pub target: Target,
    /// What.
    #[command(flatten)]
    pub preparation: Preparation,
    /// Who.
    #[command(flatten)]
    pub crowd: Crowd,
    /// Folder for `patients.csv` and `release.jsonl`
    #[arg(long)]
    pub dir: PathBuf,
}

/// `rush audit`
#[derive(Clone, Debug, Args)]
pub struct AuditArgs {
    /// Where.
    #[command(flatten)]
    pub target: Target,
    /// And then.
    #[command(flatten)]
    pub reporting: Reporting,
    /// What `run --history` or `data` wrote
    #[arg(long)]
    pub history: PathBuf,
}

/// `rush example`
#[derive(Clone, Debug, Args)]
pub struct ExampleArgs {
    /// The gateway's address
    #[arg(long, env = "SLOTRUSH_GATEWAY_URL", default_value = "http://127.0.0.1:8080")]
    pub gateway: Url,
    /// What.
    #[command(flatten)]
    pub preparation: Preparation,
}

fn partitions(text: &str) -> Result<PartitionCount, String> {
    let count = text.parse().ok().and_then(PartitionCount::new);
    count.ok_or_else(|| "a number from 1 to 64".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
