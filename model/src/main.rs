//! Explores the protocol's model.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match model::cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
