//! The commands and their options.

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::bench::{self, Bench};
use crate::chaos::{self, Chaos};
use crate::demo::{self, Demo};
use crate::fuzz::{self, Fuzz};
use crate::instructions::{self, Instructions};
use crate::jmeter::{self, Jmeter};
use crate::model::{self, Model};
use crate::mutants::{self, Mutants};
use crate::stack::{self, Options};
use crate::{deny, test, tidy};

/// The project's automation. Everything it starts is private to this folder: servers on free ports,
/// their data under .slotrush/. It never touches servers it did not start.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch a release from nothing: a crowd rushes for its places, then everything is audited
    Demo(Demo),
    /// Measure the pipeline beside the usual ways to book, on private servers, and judge the ratios
    ///
    /// Interleaved rounds with an A/A control; every round's books must balance.
    Bench(Bench),
    /// Count the instructions that the gateway spends on a request, and hold them against the budget
    ///
    /// Runs requests on one thread under valgrind (installed where missing), on private servers.
    Instructions(Instructions),
    /// Break everything around the system while patients book, and judge every invariant
    ///
    /// Private servers, two gateways and two workers; faults drawn from a seed. Ends with an error if
    /// anything is violated, and says with which seed and where the logs are.
    Chaos(Chaos),
    /// Start the system for development: Redis, RabbitMQ, PostgreSQL, gateway, worker
    ///
    /// Starts what is not running and prints where it is. Missing server programs are installed
    /// (Debian and Ubuntu packages, as root or with sudo). With `SLOTRUSH_REDIS_URL`,
    /// `SLOTRUSH_AMQP_URL` or `SLOTRUSH_DATABASE_URL` set, that server is used instead of a private one. Other SLOTRUSH_
    /// settings are passed on to the programs.
    Up(Up),
    /// Stop what `up` started, and the servers left by tests; keeps the data of `up`
    Down,
    /// Show what is running and where
    Status {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show the end of the logs
    Logs {
        /// Of one part only, as `status` names it
        part: Option<String>,
        /// Go on with what is written from now on, until Ctrl-C
        #[arg(short, long)]
        follow: bool,
    },
    /// Stop parts and start them again, with the source as it is now
    Restart {
        /// As `status` names them
        #[arg(required = true)]
        parts: Vec<String>,
        /// End them with SIGKILL
        #[arg(long)]
        kill: bool,
    },
    /// Stop what `up` started and delete its data
    Reset,
    /// Run a JMeter plan against the stack of `up`, write its HTML report, then audit
    Jmeter(Jmeter),
    /// Check what others wrote: which crates, under which licences, from where (installs cargo-deny)
    Deny,
    /// Ask a private gateway what nobody would, and hold the answers against the OpenAPI document
    Fuzz(Fuzz),
    /// Explore the protocol's model: every state of small worlds, random walks through larger ones
    ///
    /// Options: `--seeds N`, `--first-seed S`, `--scope NAME`, `--quick`, `--mutant NAME` (or `all`),
    /// `--json`. Fails if anything is broken.
    #[command(disable_help_flag = true)]
    Model(Model),
    /// Take the guards out one by one, in a copy of the tree, and see that a test fails for each
    Mutants(Mutants),
    /// Run every check and test on private servers: formatting, tidy, lints, unit to end-to-end
    Test {
        /// Leave out the lints, the end-to-end tests and the two minutes of chaos
        #[arg(long)]
        fast: bool,
    },
    /// Kill both programs between any two steps, and write what was found to docs/crash-matrix.md
    CrashMatrix,
    /// Check the rules of the house that compilers do not: who may use what, file length, headers
    Tidy {
        /// First write the migrations that are new to migrations/CHECKSUMS
        #[arg(long)]
        record: bool,
    },
}

#[derive(Debug, Args)]
struct Up {
    /// Build the programs optimised
    #[arg(long)]
    release: bool,
    /// How many gateways at least
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    gateways: u8,
    /// How many workers at least
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    workers: u8,
}

impl Cli {
    pub(crate) async fn run(self) -> Result<()> {
        match self.command {
            Command::Demo(demo) => demo::run(demo).await,
            Command::Bench(bench) => bench::run(bench).await,
            Command::Instructions(options) => instructions::run(options).await,
            Command::Chaos(options) => chaos::run(options).await,
            Command::Jmeter(options) => jmeter::run(options).await,
            Command::Up(up) => {
                let options = Options {
                    release: up.release,
                    gateways: up.gateways.into(),
                    workers: up.workers.into(),
                    ..Options::default()
                };
                stack::commands::up(options).await
            }
            Command::Down => stack::commands::down().await,
            Command::Status { json } => stack::commands::status(json).await,
            Command::Logs { part, follow } => stack::commands::logs(part.as_deref(), follow),
            Command::Restart { parts, kill } => stack::commands::restart(parts, kill).await,
            Command::Reset => stack::commands::reset().await,
            Command::Deny => deny::run().await,
            Command::Fuzz(options) => fuzz::run(options).await,
            Command::Model(model) => model::run(model).await,
            Command::Mutants(options) => mutants::run(options).await,
            Command::Test { fast } => test::run(fast).await,
            Command::CrashMatrix => test::crash_matrix().await,
            Command::Tidy { record } => tidy::run(record),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
