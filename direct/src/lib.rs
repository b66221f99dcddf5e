//! The usual ways to book, which the pipeline is compared with.
//!
//! Owns: four ways to guard a slot within a request ([`ways`]), a worker that persists one message in one
//! transaction ([`work`]), and tables of its own for them. Everything around a request is the gateway's:
//! its allocator, its accept loop, its tokens, its parsing, its log. So a comparison with the pipeline
//! compares the ways to book and nothing else.
//!
//! Must never know: the pipeline. It is not part of the product and never deployed.
//!
//! Invariant: as many rows as the slots count, never more than they hold. It has no idempotency keys, no
//! limits by patient and two indexes: it does less than the pipeline, and so is flattered by the comparison.
//!
//! Read first: `ways.rs`.

mod serve;
mod settings;
mod tables;
mod ways;
mod work;

pub use settings::Cli;

use settings::Command;

/// Does what the command line says.
///
/// # Errors
/// If a setting is wrong, or a server can't be reached or ends the connection.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Prepare(prepare) => tables::prepare(&prepare).await,
        Command::Serve(serve) => serve::run(*serve).await,
        Command::Fill(fill) => work::fill(&fill).await,
        Command::Probe(probe) => work::probe(&probe).await,
        Command::Work(work) => work::run(&work).await,
    }
}
