//! Settings: how they are given, checked and refused.
//!
//! A setting is a clap argument with an environment variable. Whatever is wrong with one is said
//! in one line that names it, before any port opens. A secret may be given in a file instead, named
//! by the same variable with `_FILE`; its value is never printed.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use url::Url;

/// Exit code of a program whose settings are wrong.
pub const EXIT_SETTINGS: u8 = 2;

/// A setting that can't be used: one line that names it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {problem}")]
pub struct Invalid {
    /// The setting, as its environment variable.
    pub name: String,
    /// What is wrong, without the value of a secret.
    pub problem: String,
}

impl Invalid {
    /// Says what is wrong with a setting.
    pub fn new(name: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { name: name.into(), problem: problem.into() }
    }
}

/// Where the three servers are, and how this deployment is laid out on them (clap group; flatten it).
#[derive(Clone, Debug, clap::Args)]
#[group(id = "stores")]
#[command(next_help_heading = "Servers")]
pub struct Stores {
    /// Address of Redis, `redis://[[user]:password@]host:port`; required, here or in a file
    #[arg(long, env = "SLOTRUSH_REDIS_URL", hide_env_values = true, value_name = "URL")]
    pub redis_url: Option<SecretString>,
    /// File that holds the address of Redis [default: none]
    #[arg(long, env = "SLOTRUSH_REDIS_URL_FILE", value_name = "PATH")]
    pub redis_url_file: Option<PathBuf>,
    /// Address of RabbitMQ, `amqp://user:password@host:port/vhost`; required, here or in a file
    #[arg(long, env = "SLOTRUSH_AMQP_URL", hide_env_values = true, value_name = "URL")]
    pub amqp_url: Option<SecretString>,
    /// File that holds the address of RabbitMQ [default: none]
    #[arg(long, env = "SLOTRUSH_AMQP_URL_FILE", value_name = "PATH")]
    pub amqp_url_file: Option<PathBuf>,
    /// Address of PostgreSQL, `postgres://user:password@host:port/database`; required, here or in a file
    #[arg(long, env = "SLOTRUSH_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<SecretString>,
    /// File that holds the address of PostgreSQL [default: none]
    #[arg(long, env = "SLOTRUSH_DATABASE_URL_FILE", value_name = "PATH")]
    pub database_url_file: Option<PathBuf>,
    /// First part of every queue's name: 1 to 64 of a–z, 0–9, `-` and `_`
    #[arg(long, env = "SLOTRUSH_QUEUE_PREFIX", default_value = "slotrush", value_name = "WORD",
        value_parser = parse_prefix)]
    pub queue_prefix: String,
    /// Number of partitions, 1 to 64; fixed for the life of a database
    #[arg(long, env = "SLOTRUSH_PARTITIONS", default_value_t = 4, value_name = "COUNT",
        value_parser = clap::value_parser!(u8).range(1..=64))]
    pub partitions: u8,
}

/// The checked addresses of the three servers.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// `redis://…`
    pub redis: SecretString,
    /// `amqp://…`
    pub amqp: SecretString,
    /// `postgres://…`
    pub database: SecretString,
}

impl Stores {
    /// Reads and checks all three addresses.
    pub fn addresses(&self) -> Result<Addresses, Invalid> {
        Ok(Addresses { redis: self.redis()?, amqp: self.amqp()?, database: self.database()? })
    }

    /// Reads and checks the address of Redis.
    pub fn redis(&self) -> Result<SecretString, Invalid> {
        let form = ("SLOTRUSH_REDIS_URL", &["redis"][..], "redis://host:port");
        address(form, self.redis_url.as_ref(), self.redis_url_file.as_deref())
    }

    /// Reads and checks the address of RabbitMQ.
    pub fn amqp(&self) -> Result<SecretString, Invalid> {
        let form = ("SLOTRUSH_AMQP_URL", &["amqp", "amqps"][..], "amqp://host:port/vhost");
        address(form, self.amqp_url.as_ref(), self.amqp_url_file.as_deref())
    }

    /// Reads and checks the address of PostgreSQL.
    pub fn database(&self) -> Result<SecretString, Invalid> {
        let schemes = &["postgres", "postgresql"][..];
        let form = ("SLOTRUSH_DATABASE_URL", schemes, "postgres://host:port/database");
        address(form, self.database_url.as_ref(), self.database_url_file.as_deref())
    }
}

/// Reads a secret given directly or as a file; `None` if neither is set. An empty value is not set.
///
/// `name` is the variable of the direct form; the file's is the same with `_FILE`. A newline at the
/// end of the file does not belong to the secret.
pub fn secret(
    name: &str,
    value: Option<&SecretString>,
    file: Option<&Path>,
) -> Result<Option<SecretString>, Invalid> {
    let value = value.filter(|value| !value.expose_secret().is_empty());
    let file = file.filter(|file| !file.as_os_str().is_empty());
    match (value, file) {
        (Some(_), Some(_)) => Err(Invalid::new(name, format!("also given as {name}_FILE"))),
        (Some(value), None) => Ok(Some(value.clone())),
        (None, Some(file)) => {
            let text = fs::read_to_string(file)
                .map_err(|error| Invalid::new(format!("{name}_FILE"), unreadable(&error)))?;
            Ok(Some(SecretString::from(text.trim_end_matches(['\r', '\n']))))
        }
        (None, None) => Ok(None),
    }
}

/// Parses the program's arguments and environment; prints help, or one line on what is wrong, and
/// ends the process if there is nothing to run.
pub fn parse_or_exit<P: clap::Parser>() -> P {
    match parse_from(std::env::args_os()) {
        Ok(settings) => settings,
        Err(Refusal::Said(error)) => error.exit(),
        Err(Refusal::Wrong(invalid)) => {
            eprintln!("{invalid}");
            std::process::exit(i32::from(EXIT_SETTINGS));
        }
    }
}

/// Turns a program's end into its exit code: an error is one line on standard error.
pub fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            let is_setting = error.downcast_ref::<Invalid>().is_some();
            if is_setting { ExitCode::from(EXIT_SETTINGS) } else { ExitCode::FAILURE }
        }
    }
}

/// Opens the port a setting names.
pub async fn listen(name: &str, address: SocketAddr) -> Result<TcpListener, Invalid> {
    let opened = TcpListener::bind(address).await;
    opened.map_err(|error| Invalid::new(name, format!("cannot listen on {address}: {error}")))
}

/// Why there are no settings.
#[derive(Debug)]
enum Refusal {
    /// Help or the version was asked for.
    Said(clap::Error),
    /// One of them is wrong.
    Wrong(Invalid),
}

fn parse_from<P: clap::Parser>(
    args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<P, Refusal> {
    P::try_parse_from(args).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Refusal::Said(error),
        _ => Refusal::Wrong(in_one_line(&P::command(), &error)),
    })
}

/// Names a setting by its variable: it is how most are given, and tells the flag as well.
fn in_one_line(command: &clap::Command, error: &clap::Error) -> Invalid {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let given = text(ContextKind::InvalidArg).unwrap_or_default();
    let flag = given.split([' ', '=']).next().unwrap_or_default();
    let name = variable_of(command, flag).unwrap_or_else(|| flag.to_owned());
    let cause = std::error::Error::source(error).map(ToString::to_string);
    let problem = match (text(ContextKind::InvalidValue), cause) {
        (Some(value), Some(cause)) => format!("{value:?} is not valid: {cause}"),
        (Some(value), None) => match text(ContextKind::ValidValue) {
            Some(valid) => format!("{value:?} is not one of {valid}"),
            None => format!("{value:?} is not valid"),
        },
        (None, _) => error.kind().to_string(),
    };
    Invalid::new(if name.is_empty() { "settings".into() } else { name }, problem)
}

fn variable_of(command: &clap::Command, flag: &str) -> Option<String> {
    let long = flag.strip_prefix("--")?;
    let all = std::iter::once(command).chain(command.get_subcommands());
    let mut args = all.flat_map(clap::Command::get_arguments);
    let arg = args.find(|arg| arg.get_long() == Some(long))?;
    Some(arg.get_env()?.to_string_lossy().into_owned())
}

fn address(
    (name, schemes, form): (&str, &[&str], &str),
    value: Option<&SecretString>,
    file: Option<&Path>,
) -> Result<SecretString, Invalid> {
    let expected = || Invalid::new(name, format!("expected {form}"));
    let found = secret(name, value, file)?.ok_or_else(expected)?;
    let url = Url::parse(found.expose_secret()).map_err(|_| expected())?;
    // A PostgreSQL socket folder is named in the query instead of a host.
    let has_host = url.host_str().is_some_and(|host| !host.is_empty())
        || url.query_pairs().any(|(key, value)| key == "host" && !value.is_empty());
    if schemes.contains(&url.scheme()) && has_host { Ok(found) } else { Err(expected()) }
}

fn parse_prefix(text: &str) -> Result<String, String> {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if (1..=64).contains(&text.len()) && text.bytes().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err("expected 1 to 64 of a-z, 0-9, - and _".into())
}

fn unreadable(error: &std::io::Error) -> String {
    format!("cannot be read: {error}")
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        stores: Stores,
        #[command(flatten)]
        telemetry: crate::telemetry::Settings,
    }

    fn parse(args: &[&str]) -> Result<Program, Refusal> {
        parse_from(std::iter::once("program").chain(args.iter().copied()))
    }

    fn wrong(args: &[&str]) -> String {
        match parse(args) {
            Err(Refusal::Wrong(invalid)) => invalid.to_string(),
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn the_groups_go_together() {
        Program::command().debug_assert();
    }

    #[test]
    fn a_bad_value_is_one_line_that_names_the_variable() {
        assert_eq!(
            wrong(&["--partitions", "65"]),
            "SLOTRUSH_PARTITIONS: \"65\" is not valid: 65 is not in 1..=64"
        );
        let line = wrong(&["--log-format", "xml"]);
        assert_eq!(line, "SLOTRUSH_LOG_FORMAT: \"xml\" is not one of json, text");
        assert!(wrong(&["--queue-prefix", "A b"]).starts_with("SLOTRUSH_QUEUE_PREFIX: "));
        let unknown = wrong(&["--no-such"]);
        assert!(unknown.starts_with("--no-such: ") && !unknown.contains('\n'), "{unknown}");
    }

    #[test]
    fn an_address_needs_its_scheme_and_host() {
        for bad in ["", "localhost:6379", "http://localhost", "redis://", "redis://:6379"] {
            let program = parse(&[&format!("--redis-url={bad}")]).expect("parses");
            let line = program.stores.redis().expect_err("not an address").to_string();
            assert_eq!(line, "SLOTRUSH_REDIS_URL: expected redis://host:port", "{bad:?}");
        }
        let good = ["--redis-url=redis://:secret@cache:6379", "--amqp-url=amqp://a:b@mq:5672/%2f"];
        let mut program = parse(&good).expect("parses");
        // The developer's own environment must not decide this test.
        program.stores.database_url = None;
        program.stores.database_url_file = None;
        assert!(program.stores.redis().is_ok() && program.stores.amqp().is_ok());
        let database = program.stores.addresses().expect_err("no database").to_string();
        assert_eq!(database, "SLOTRUSH_DATABASE_URL: expected postgres://host:port/database");
    }

    #[test]
    fn a_secret_comes_from_its_file_but_not_from_both() {
        let folder = std::env::temp_dir().join(format!("slotrush-settings-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a scratch folder");
        let file = folder.join("url");
        fs::write(&file, "hush\n").expect("a scratch file");
        let read = secret("X", None, Some(&file)).expect("readable").expect("given");
        assert_eq!(read.expose_secret(), "hush");
        let value = SecretString::from("other");
        let both = secret("X", Some(&value), Some(&file)).expect_err("given twice");
        assert_eq!(both.to_string(), "X: also given as X_FILE");
        fs::remove_dir_all(&folder).expect("the scratch folder goes");
        let gone = secret("X", None, Some(&file)).expect_err("no such file").to_string();
        assert!(gone.starts_with("X_FILE: cannot be read: "), "{gone}");
        assert!(secret("X", Some(&SecretString::from("")), None).expect("empty").is_none());
    }

    #[test]
    fn secrets_are_not_printed() {
        let urls = [
            "--redis-url=redis://:secret@cache:6379",
            "--amqp-url=amqp://a:secret@mq:5672/%2f",
            "--database-url=postgres://a:secret@db/c",
        ];
        let program = parse(&urls).expect("parses");
        let addresses = program.stores.addresses().expect("all three");
        let printed = format!("{program:?} {addresses:#?}");
        assert!(!printed.contains("secret@"), "{printed}");
    }
}
