//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

/// The usual ways to book, for comparison with the pipeline
#[derive(Debug, clap::Parser)]
#[command(name = "direct", version)]
pub struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make the tables anew, with slots that hold as many as one likes
    Prepare(Prepare),
    /// Book within the request: POST /WAY/v1/bookings with WAY one of memory, locked, naive, tuned; or empty,
    /// which answers 204 and does nothing, as does /bare without what the gateway does around every request
    Serve(Box<Serve>),
    /// Fill a queue with bookings, a message each, confirmed
    Fill(Fill),
    /// Publish the same message now and then, wait for its confirm, and print the 99th percentile of that, ms.
    /// Says "ready" first, and begins with a line of input, or its end
    Probe(Probe),
    /// Empty that queue: one transaction with optimistic retry for each message
    Work(Work),
}

/// The database.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Database {
    /// A database of its own
    #[arg(long, env = "DIRECT_DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: String,
    /// Connections to it at most
    #[arg(long, env = "DIRECT_DATABASE_CONNECTIONS_MAX", default_value_t = 16)]
    pub(crate) database_connections_max: u32,
}

/// What is on offer: slots numbered as the pipeline does.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Offer {
    /// Sessions, numbered from 1
    #[arg(long, default_value_t = 1)]
    pub(crate) sessions: u32,
    /// Slots of each, numbered from 0
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) slots: u32,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Prepare {
    #[command(flatten)]
    pub(crate) database: Database,
    #[command(flatten)]
    pub(crate) offer: Offer,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Address to listen on
    #[arg(long, env = "DIRECT_LISTEN", default_value = "127.0.0.1:8090")]
    pub(crate) listen: SocketAddr,
    #[command(flatten)]
    pub(crate) database: Database,
    /// The key that signs the patients' tokens
    #[arg(long, env = "SLOTRUSH_TOKEN_KEY_FILE")]
    pub(crate) token_key_file: PathBuf,
    /// The door.
    #[command(flatten)]
    pub(crate) server: gateway::server::Settings,
    /// Who may ask how often.
    #[command(flatten)]
    pub(crate) limits: gateway::limits::Settings,
    /// Its log.
    #[command(flatten)]
    pub(crate) telemetry: service::telemetry::Settings,
}

/// A queue.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Queue {
    /// The broker
    #[arg(long, env = "DIRECT_AMQP_URL", hide_env_values = true)]
    pub(crate) amqp_url: String,
    /// A quorum queue, declared by `fill`
    #[arg(long, default_value = "direct.bookings")]
    pub(crate) queue: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Fill {
    #[command(flatten)]
    pub(crate) queue: Queue,
    #[command(flatten)]
    pub(crate) offer: Offer,
    /// Bookings to send, spread over the slots in turn
    #[arg(long, default_value_t = 10_000)]
    pub(crate) bookings: u32,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Probe {
    /// The broker
    #[arg(long, env = "DIRECT_AMQP_URL", hide_env_values = true)]
    pub(crate) amqp_url: String,
    /// An exchange that is there
    #[arg(long)]
    pub(crate) exchange: String,
    /// A routing key that leads from it to a queue
    #[arg(long)]
    pub(crate) routing_key: String,
    /// What whoever reads the queue knows the message by: its AMQP type
    #[arg(long)]
    pub(crate) kind: String,
    /// Its body
    #[arg(long)]
    pub(crate) body: String,
    /// How long
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// How long of that before confirms count
    #[arg(long, default_value_t = 0.0)]
    pub(crate) warm_up_seconds: f64,
    /// Time between two messages, ms
    #[arg(long, default_value_t = 10)]
    pub(crate) every_ms: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Work {
    #[command(flatten)]
    pub(crate) queue: Queue,
    #[command(flatten)]
    pub(crate) database: Database,
    /// Transactions at once
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) at_once: u16,
    /// End after this many bookings
    #[arg(long)]
    pub(crate) bookings: u32,
    /// End after this many seconds
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn no_setting_has_the_name_of_another() {
        super::Cli::command().debug_assert();
    }
}
