//! A database per test.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;

use crate::eventually::unique;
use crate::programs::Programs;
use crate::shared::postgres_url;

/// Roles of a database, dropped with it.
const ROLES: [&str; 3] = ["gateway", "worker", "stranger"];

/// A database of its own, dropped on drop (best effort).
#[derive(Debug)]
pub struct Database {
    server_url: String,
    name: String,
}

impl Database {
    /// Creates an empty database on the shared test server.
    pub async fn create() -> Result<Self> {
        Self::create_on(&postgres_url().await?).await
    }

    /// Creates an empty database on this server (superuser URL).
    pub async fn create_on(server_url: &str) -> Result<Self> {
        let name = unique();
        run(server_url, &format!("CREATE DATABASE {name}")).await?;
        Ok(Self { server_url: server_url.to_owned(), name })
    }

    /// `postgres://…`
    pub fn url(&self) -> String {
        with_database(&self.server_url, &self.name)
    }

    /// Runs a statement as the superuser; returns what `psql` prints of its rows.
    pub async fn run(&self, statement: &str) -> Result<String> {
        run(&self.url(), statement).await
    }

    /// Makes a role (`gateway`, `worker`, `stranger`) that may log in and nothing else. Returns its name, and the address with it.
    pub async fn role(&self, word: &str) -> Result<(String, String)> {
        ensure!(ROLES.contains(&word), "{word} would be left over");
        let name = format!("{}_{word}", self.name);
        let url = ensure_role(&self.url(), &name, &unique()).await?;
        Ok((name, url))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        if let Ok(mut psql) = psql(&self.server_url, &statement) {
            // What it was granted went with the database.
            for word in ROLES {
                psql.args(["--command", &format!("DROP ROLE IF EXISTS {}_{word}", self.name)]);
            }
            let _ = psql.stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

/// The address of the database of this name on this server (superuser URL), created if there is none.
pub async fn ensure_database(server_url: &str, name: &str) -> Result<String> {
    ensure!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "bad name {name:?}");
    let seek = format!("SELECT datname FROM pg_database WHERE datname = '{name}'");
    if !run(server_url, &seek).await?.contains(name) {
        run(server_url, &format!("CREATE DATABASE {name}")).await?;
    }
    Ok(with_database(server_url, name))
}

/// Makes a role that may log in, or gives it this password. Returns the address with it.
pub async fn ensure_role(url: &str, name: &str, password: &str) -> Result<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    ensure!(name.bytes().all(is_plain), "bad name {name:?}");
    ensure!(password.bytes().all(is_plain), "a password of letters and digits");
    // Told over the input: arguments are visible to everyone.
    let script = format!(
        "\\set ON_ERROR_STOP 1
         SELECT 'CREATE ROLE {name} LOGIN'
         WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') \\gexec
         ALTER ROLE {name} LOGIN PASSWORD '{password}';\n"
    );
    let mut psql = tokio::process::Command::from(psql(url, "SELECT 1")?);
    psql.args(["--file", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = psql.spawn().context("cannot start psql")?;
    let mut input = running.stdin.take().context("the input of psql")?;
    input.write_all(script.as_bytes()).await?;
    drop(input);
    let output = running.wait_with_output().await?;
    ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    with_role(url, name, password)
}

/// The same server and database of an address, as this role.
pub fn with_role(url: &str, name: &str, password: &str) -> Result<String> {
    let (scheme, rest) = url.split_once("://").context("an address has a scheme")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let host = rest[..end].rsplit_once('@').map_or(&rest[..end], |(_, host)| host);
    Ok(format!("{scheme}://{name}:{password}@{host}{}", &rest[end..]))
}

async fn run(server_url: &str, statement: &str) -> Result<String> {
    let output = tokio::process::Command::from(psql(server_url, statement)?)
        .output()
        .await
        .context("cannot start psql")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{statement}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

fn psql(server_url: &str, statement: &str) -> Result<Command> {
    // The password goes in a variable: arguments are visible to everyone.
    let (address, password) = without_password(server_url);
    let mut command = Command::new(Programs::psql()?);
    command
        .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--command", statement])
        .arg(address)
        .stdin(Stdio::null())
        .current_dir("/");
    if let Some(password) = password {
        command.env("PGPASSWORD", password);
    }
    Ok(command)
}

/// An address without its password, and the password.
fn without_password(url: &str) -> (String, Option<String>) {
    let parts = url.split_once("://").and_then(|(scheme, rest)| {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (credentials, host) = rest[..end].rsplit_once('@')?;
        let (user, password) = credentials.split_once(':')?;
        Some((format!("{scheme}://{user}@{host}{}", &rest[end..]), decode(password)))
    });
    match parts {
        Some((address, password)) => (address, Some(password)),
        None => (url.to_owned(), None),
    }
}

/// Undoes percent encoding.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = tail.first_chunk::<2>().and_then(|hex| str::from_utf8(hex).ok());
        let byte = escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        if let (b'%', Some(byte)) = (first, byte) {
            bytes.push(byte);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The same server, another database.
fn with_database(url: &str, name: &str) -> String {
    let (address, query) = url.split_once('?').map_or((url, None), |(a, q)| (a, Some(q)));
    let authority = address.find("://").map_or(0, |at| at + 3);
    let end = address[authority..].find('/').map_or(address.len(), |at| authority + at);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{name}{query}", &address[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_database_of_an_address_changes() {
        let on = |url| with_database(url, "t1");
        assert_eq!(on("postgres://u:p@h:1/postgres"), "postgres://u:p@h:1/t1");
        assert_eq!(on("postgres://u:p@h:1"), "postgres://u:p@h:1/t1");
        assert_eq!(on("postgres://h/x?sslmode=disable"), "postgres://h/t1?sslmode=disable");
    }

    #[test]
    fn only_the_role_of_an_address_changes() {
        let on = |url| with_role(url, "r", "x").expect("an address");
        assert_eq!(on("postgres://u:p@h:1/d?a=b"), "postgres://r:x@h:1/d?a=b");
        assert_eq!(on("postgres://h"), "postgres://r:x@h");
    }

    #[test]
    fn the_password_is_taken_out_of_an_address() {
        let parts = without_password("postgres://u:p%40w@h:1/d");
        assert_eq!(parts, ("postgres://u@h:1/d".to_owned(), Some("p@w".to_owned())));
        assert_eq!(without_password("postgres://h/d").1, None);
    }

    #[tokio::test]
    async fn a_database_lives_as_long_as_its_handle() {
        let server = crate::Postgres::start().await.expect("starts");
        let database = Database::create_on(&server.url()).await.expect("created");
        let connect = |url: &str| {
            let mut psql = psql(url, "SELECT 1").expect("psql");
            psql.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("psql").success()
        };
        let url = database.url();
        assert!(connect(&url));
        drop(database);
        assert!(!connect(&url));
    }
}
