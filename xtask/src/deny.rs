//! cargo-deny: which crates of others may be used, under which licences, from where (`deny.toml`).
//!
//! Building it takes minutes, so the tests use it only where it is; `cargo xtask deny` installs it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use testkit::find_program;

use crate::command;
use crate::workspace::{private_folder, relative};

/// Builds it if need be, and checks.
pub(crate) async fn run() -> Result<()> {
    if installed().is_none() {
        println!("building cargo-deny, once; it stays in {}", relative(&folder()));
        let mut install = command::cargo();
        install.args(["install", "cargo-deny", "--locked", "--quiet", "--root"]).arg(folder());
        install.arg("--target-dir").arg(folder().join("target"));
        command::succeed(&mut install).await.context("cannot build cargo-deny")?;
    }
    check().await
}

/// Is it here, on PATH or from an earlier run?
pub(crate) fn installed() -> Option<PathBuf> {
    let own = folder().join("bin/cargo-deny");
    find_program("cargo-deny").or_else(|| own.is_file().then_some(own))
}

/// Checks without the network: known vulnerabilities would need it.
pub(crate) async fn check() -> Result<()> {
    let program = installed().context("cargo-deny is not installed: `cargo xtask deny`")?;
    let mut deny = std::process::Command::new(program);
    deny.current_dir(crate::workspace::root());
    deny.args(["--workspace", "--locked", "--offline", "check", "bans", "licenses", "sources"]);
    command::succeed(&mut deny).await
}

fn folder() -> PathBuf {
    private_folder().join("tools")
}
