//! `cargo xtask model`: explores the protocol's model, built optimised.

use anyhow::Result;
use clap::Args;

use crate::command;

/// What to explore. Passed on to the `model` program, which explains itself with `--help`.
#[derive(Debug, Args)]
pub(crate) struct Model {
    /// `--seeds N`, `--first-seed S`, `--scope NAME`, `--quick`, `--mutant NAME`, `--json`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// Builds the model and runs it; its verdict is ours.
pub(crate) async fn run(model: Model) -> Result<()> {
    let mut cargo = command::cargo();
    cargo.args(["run", "--quiet", "--locked", "--release", "-p", "model", "--"]);
    cargo.args(model.options);
    command::succeed(&mut cargo).await
}
