//! Where the server programs are.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The oldest PostgreSQL the ledger runs on.
const POSTGRES_MAJOR_MIN: u32 = 15;

/// Folders that are not on every user's PATH.
const SYSTEM_FOLDERS: [&str; 5] =
    ["/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin"];

/// The server programs, each where it was found.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `redis-server`.
    pub redis_server: Option<PathBuf>,
    /// The folder with `initdb`, `postgres` and `psql` of one PostgreSQL, 15 or newer.
    pub postgres_bin: Option<PathBuf>,
    /// `rabbitmq-server` itself, not a wrapper that changes the user and drops the environment.
    pub rabbitmq_server: Option<PathBuf>,
}

impl Programs {
    /// Looks on PATH and where Debian and Ubuntu put them.
    pub fn find() -> Self {
        let debian_rabbit = PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server");
        Self {
            redis_server: find_program("redis-server"),
            postgres_bin: find_postgres_bin(),
            rabbitmq_server: if debian_rabbit.exists() {
                Some(debian_rabbit)
            } else {
                find_program("rabbitmq-server")
            },
        }
    }

    /// Debian packages of what was not found.
    pub fn missing_packages(&self) -> Vec<&'static str> {
        let found = [
            ("redis-server", self.redis_server.is_some()),
            ("rabbitmq-server", self.rabbitmq_server.is_some()),
            ("postgresql", self.postgres_bin.is_some()),
        ];
        found.into_iter().filter(|(_, is_found)| !is_found).map(|(package, _)| package).collect()
    }

    pub(crate) fn redis_server() -> Result<PathBuf> {
        Self::find().redis_server.context("redis-server is not installed")
    }

    pub(crate) fn rabbitmq_server() -> Result<PathBuf> {
        Self::find().rabbitmq_server.context("rabbitmq-server is not installed")
    }

    pub(crate) fn postgres_bin() -> Result<PathBuf> {
        Self::find().postgres_bin.context("PostgreSQL 15 or newer is not installed")
    }

    /// `psql`, which may be there without a server.
    pub(crate) fn psql() -> Result<PathBuf> {
        match find_postgres_bin().map(|bin| bin.join("psql")).filter(|psql| psql.exists()) {
            Some(psql) => Ok(psql),
            None => find_program("psql").context("psql is not installed"),
        }
    }
}

/// A program by name, on PATH or in the usual system folders.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn find_postgres_bin() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let major = entry.file_name().to_str()?.parse().ok()?;
            Some((major, entry.path().join("bin")))
        })
        .filter(|(major, bin)| *major >= POSTGRES_MAJOR_MIN && has_postgres(bin))
        .collect();
    found.sort();
    if let Some((_, bin)) = found.pop() {
        return Some(bin);
    }
    let bin = find_program("initdb")?.parent()?.to_path_buf();
    let major = postgres_major(bin.join("postgres")).ok()?;
    (major >= POSTGRES_MAJOR_MIN && has_postgres(&bin)).then_some(bin)
}

fn has_postgres(bin: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|name| bin.join(name).is_file())
}

fn postgres_major(postgres: impl AsRef<OsStr>) -> Result<u32> {
    let output = Command::new(postgres).arg("--version").output()?;
    parse_postgres_major(&String::from_utf8_lossy(&output.stdout))
}

fn parse_postgres_major(text: &str) -> Result<u32> {
    // "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"
    let Some(version) = text.split_whitespace().find(|word| word.starts_with(char::is_numeric))
    else {
        bail!("no version in {text:?}");
    };
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().with_context(|| format!("no version in {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_postgres_prints() {
        let major = |text| parse_postgres_major(text).ok();
        assert_eq!(major("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 19beta1"), Some(19));
        assert_eq!(major("postgres"), None);
    }

    #[test]
    fn a_program_nobody_has_is_not_found() {
        assert_eq!(find_program("slotrush-nobody-has-this"), None);
        assert!(find_program("sh").is_some());
    }
}
