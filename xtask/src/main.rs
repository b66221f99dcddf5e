//! `cargo xtask`: the project's automation.
//!
//! Owns: starting and ending the whole system, checking the source. It is the first thing a new user
//! waits for, so it stays light to compile. Read first: `cli.rs`, then `stack/mod.rs`.

mod bench;
mod chaos;
mod cli;
mod command;
mod demo;
mod deny;
mod fuzz;
mod install;
mod instructions;
mod interrupt;
mod jmeter;
mod lock;
mod matrix;
mod model;
mod mutants;
mod stack;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    match cli::Cli::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
