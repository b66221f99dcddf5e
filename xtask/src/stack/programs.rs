//! The programs of a stack: built, given keys and tables, started, waited for.

use std::env;
use std::fmt::Display;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use testkit::{Process, Server, Signal};

use super::accounts::{GATEWAY_ROLE, WORKER_ROLE};
use super::probe::is_ready;
use super::servers::SERVERS;
use super::state::{Part, kind_of};
use super::{Stack, report};
use crate::command;

const READY_WITHIN: Duration = Duration::from_mins(1);

/// Started, but not known to work yet.
struct Starting {
    name: String,
    process: Process,
    url: String,
    admin_url: String,
}

impl Stack {
    /// Builds the programs.
    pub(crate) async fn build(&self) -> Result<()> {
        command::build_programs(self.options.release).await
    }

    /// One of the programs (`gateway`, `booking-worker`) with all its settings, not yet started.
    pub(crate) fn program(&self, name: &str) -> Result<Command> {
        let profile = if self.options.release { "release" } else { "debug" };
        let ours = env::current_exe()?;
        let target = ours.ancestors().nth(2).context("xtask is not in a target folder")?;
        let mut command = Command::new(target.join(profile).join(name));
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("SLOTRUSH_") && !self.options.use_settings {
                command.env_remove(&name);
            }
        }
        for (server, setting) in SERVERS {
            command.env_remove(format!("{setting}_FILE"));
            command.env(setting, self.server_url(server));
        }
        for (setting, file) in self.key_files() {
            command.env(setting, file);
        }
        command.envs(self.options.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.folder);
        Ok(command)
    }

    /// What to type in a shell to make an admin of this stack.
    pub(crate) fn admin_command(&self) -> Result<String> {
        let [_, (setting, data_key)] = self.key_files();
        let program = self.program("gateway")?;
        let words = [
            format!("echo 'a good password' | {setting}={}", quoted(&data_key.display())),
            format!("SLOTRUSH_DATABASE_URL={}", quoted(&self.database_url())),
            format!("{} create-admin --login boss", quoted(&program.get_program().display())),
        ];
        Ok(words.join(" \\\n  "))
    }

    /// Makes the keys, the tables and the queues, if they are not there.
    pub(super) async fn prepare(&self) -> Result<()> {
        if self.key_files().iter().any(|(_, file)| !file.exists()) {
            let mut keygen = self.program("gateway")?;
            keygen.arg("keygen").arg("--dir").arg(self.keys_folder());
            command::succeed(&mut keygen).await.context("cannot make the keys")?;
        }
        let mut migrate = self.program("gateway")?;
        migrate.arg("migrate");
        if self.make_accounts().await? {
            migrate.args(["--gateway-role", GATEWAY_ROLE, "--worker-role", WORKER_ROLE]);
        }
        command::succeed(&mut migrate).await.context("cannot make the tables")?;
        let mut declare = self.program("gateway")?;
        command::succeed(declare.arg("declare-queues")).await.context("cannot declare the queues")
    }

    /// Starts the programs of these names, all at once, and waits until each is ready.
    pub(super) async fn start_programs(&mut self, names: &[String]) -> Result<()> {
        let mut starting = Vec::new();
        for name in names {
            starting.push(self.spawn_program(name)?);
        }
        for mut part in starting {
            let admin_url = part.admin_url.clone();
            part.process.ready(READY_WITHIN, || is_ready(&admin_url)).await?;
            report(&part.name, &part.url);
            let server = Server { url: part.url, processes: vec![part.process.detach()] };
            let admin_url = Some(part.admin_url);
            self.record(&part.name, Part { server, admin_url, is_foreign: false })?;
        }
        Ok(())
    }

    fn spawn_program(&mut self, name: &str) -> Result<Starting> {
        let admin_port = self.state.port(&format!("{name}.admin"));
        let admin = format!("127.0.0.1:{admin_port}");
        let admin_url = format!("http://{admin}");
        let (mut command, url) = match kind_of(name) {
            "gateway" => {
                let listen = format!("127.0.0.1:{}", self.state.port(name));
                let mut command = self.program("gateway")?;
                self.log_in_as(&mut command, GATEWAY_ROLE)?;
                command.env("SLOTRUSH_LISTEN", &listen).env("SLOTRUSH_ADMIN_LISTEN", &admin);
                (command, format!("http://{listen}"))
            }
            "worker" => {
                let mut command = self.program("booking-worker")?;
                self.log_in_as(&mut command, WORKER_ROLE)?;
                command.env("SLOTRUSH_WORKER_ADMIN_LISTEN", &admin);
                (command, admin_url.clone())
            }
            _ => bail!("{name} is not a program of this system"),
        };
        let log = self.folder.join(format!("{name}.log"));
        let process = Process::spawn(name, &mut command, Signal::Term, &log)?.guarded(&[])?;
        Ok(Starting { name: name.to_owned(), process, url, admin_url })
    }

    /// Each key's setting and file; someone's own where a setting names it.
    fn key_files(&self) -> [(&'static str, PathBuf); 2] {
        let keys = self.keys_folder();
        let own = |setting| env::var_os(setting).filter(|_| self.options.use_settings);
        [("SLOTRUSH_TOKEN_KEY_FILE", "token-key.pem"), ("SLOTRUSH_DATA_KEY_FILE", "data-key")]
            .map(|(setting, file)| (setting, own(setting).map_or(keys.join(file), PathBuf::from)))
    }
}

/// As one word of a shell.
fn quoted(text: &impl Display) -> String {
    format!("'{}'", text.to_string().replace('\'', r"'\''"))
}
