//! Settings, run, report, exit code. What it does is in `e2e::chaos`.

use std::process::ExitCode;

use clap::Parser as _;
use e2e::chaos::{Args, run};

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args).await {
        Ok(report) => {
            if args.json {
                // The last line of the output is the object, alone; the rest is for a person.
                eprint!("{}", report.text());
                println!("{}", serde_json::to_string(&report).unwrap_or_default());
            } else {
                print!("{}", report.text());
            }
            if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
