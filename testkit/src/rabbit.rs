//! A private RabbitMQ: a node and a port mapper of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::database::with_role;
use crate::eventually::random_text;
use crate::port::free_port;
use crate::process::{Process, write_private};
use crate::process_id::{Server, Signal};
use crate::programs::{Programs, find_program};

const READY_WITHIN: Duration = Duration::from_mins(2);
const STOP_WITHIN: Duration = Duration::from_secs(30);
const USER: &str = "slotrush";

/// Who may do what, as the containers have it.
const DEFINITIONS: &str = include_str!("../../deploy/rabbitmq/definitions.json");
/// Any prefix of ours: tests have one each, without a dot.
const PREFIX: &str = "[^.]+";

/// Passwords of the programs' own users.
#[derive(Debug)]
pub struct RabbitPasswords {
    /// Of `slotrush_gateway`.
    pub gateway: String,
    /// Of `slotrush_worker`.
    pub worker: String,
}

impl RabbitPasswords {
    /// Those of a server for tests: whoever knows the owner's knows them.
    fn for_tests(owner: &str) -> Self {
        Self { gateway: format!("{owner}-gateway"), worker: format!("{owner}-worker") }
    }
}

/// The address of a server for tests with the users of the gateway and of the worker.
pub fn amqp_programs(url: &str) -> Result<(String, String)> {
    let owner = url.split_once("://").and_then(|(_, rest)| rest.split_once('@'));
    let owner = owner.and_then(|(login, _)| login.split_once(':')).context("a password")?.1;
    let RabbitPasswords { gateway, worker } = RabbitPasswords::for_tests(owner);
    Ok((with_role(url, "slotrush_gateway", &gateway)?, with_role(url, "slotrush_worker", &worker)?))
}

/// A private RabbitMQ on 127.0.0.1 with users of its own. Starts in about five seconds. Ended on
/// drop, with the data of one that has a scratch folder.
#[derive(Debug)]
pub struct Rabbit {
    node: Process,
    /// Erlang's port mapper. Our own, on its own port: the system's may be in use by others.
    mapper: Process,
    port: u16,
    mapper_port: u16,
    password: String,
    folder: PathBuf,
    scratch: Option<TempDir>,
}

impl Rabbit {
    /// Starts an empty one in a scratch folder, on free ports.
    pub async fn start() -> Result<Self> {
        Self::start_scratch(&std::env::temp_dir()).await
    }

    /// The same with the scratch folder in `parent`.
    pub async fn start_scratch(parent: &Path) -> Result<Self> {
        let scratch = TempDir::with_prefix_in("slotrush-rabbit-", parent)?;
        let folder = scratch.path().to_path_buf();
        Self::launch(&folder, free_port(), Some(scratch), None).await
    }

    /// Starts the one whose data is in `folder`, creating it if there is none. The data stays.
    pub async fn start_in(folder: &Path, amqp_port: u16) -> Result<Self> {
        Self::launch(folder, amqp_port, None, None).await
    }

    /// The same with these passwords of the programs, which the owner's does not tell.
    pub async fn start_with(
        folder: &Path,
        amqp_port: u16,
        programs: RabbitPasswords,
    ) -> Result<Self> {
        Self::launch(folder, amqp_port, None, Some(programs)).await
    }

    /// `amqp://user:password@127.0.0.1:port/%2f`
    pub fn url(&self) -> String {
        format!("amqp://{USER}:{}@127.0.0.1:{}/%2f", self.password, self.port)
    }

    /// Its port for AMQP.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The node's process.
    pub fn pid(&self) -> u32 {
        self.node.id().pid
    }

    /// SIGKILL to the node, and waits for its end.
    #[expect(clippy::unused_async, reason = "the same shape as the other servers' kill")]
    pub async fn kill(&mut self) -> Result<()> {
        self.node.kill();
        Ok(())
    }

    /// Makes the node stand still (SIGSTOP): connections stay open, nothing is answered.
    pub fn pause(&self) {
        self.node.id().signal(Signal::Stop);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.node.id().signal(Signal::Cont);
    }

    /// Starts the node again on the same port and data, ending it first if it still runs.
    pub async fn restart(&mut self) -> Result<()> {
        self.node.stop(STOP_WITHIN).await;
        self.node = spawn_node(&self.folder, self.mapper_port, self.scratch.as_ref())?;
        ready(&mut self.node, self.port).await
    }

    /// Runs `rabbitmqctl` on the node and returns what it printed. About two seconds.
    pub async fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let program = Programs::rabbitmq_server()?.with_file_name("rabbitmqctl");
        let mut command = Command::new(program);
        set_environment(&mut command, &self.folder, self.mapper_port);
        let mut command = tokio::process::Command::from(command);
        let output = command.args(["--quiet"]).args(arguments).output().await?;
        anyhow::ensure!(
            output.status.success(),
            "rabbitmqctl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Lets it, and its data, outlive this process.
    pub fn detach(mut self) -> Server {
        let url = self.url();
        if let Some(scratch) = self.scratch {
            let _ = scratch.keep();
        }
        Server { url, processes: vec![self.node.detach(), self.mapper.detach()] }
    }

    async fn launch(
        folder: &Path,
        port: u16,
        scratch: Option<TempDir>,
        programs: Option<RabbitPasswords>,
    ) -> Result<Self> {
        let folder = std::path::absolute(folder)?;
        fs::create_dir_all(folder.join("home"))
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let password = lasting_secret(&folder.join("rabbit.password"))?;
        let cookie = folder.join("home/.erlang.cookie");
        lasting_secret(&cookie)?;
        fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400))?;
        let programs = programs.unwrap_or_else(|| RabbitPasswords::for_tests(&password));
        let definitions = folder.join("definitions.json");
        write_private(&definitions, &users(&password, &programs))?;
        fs::write(folder.join("rabbitmq.conf"), config(port, &definitions))?;
        fs::write(folder.join("env.conf"), "")?;
        fs::write(folder.join("plugins"), "[].\n")?;

        let mapper_port = free_port();
        let mapper = spawn_mapper(&folder, mapper_port, scratch.as_ref())?;
        let mut node = spawn_node(&folder, mapper_port, scratch.as_ref())?;
        ready(&mut node, port).await?;
        Ok(Self { node, mapper, port, mapper_port, password, folder, scratch })
    }
}

fn users(owner: &str, programs: &RabbitPasswords) -> String {
    DEFINITIONS
        .replace("{owner}", owner)
        .replace("{gateway}", &programs.gateway)
        .replace("{worker}", &programs.worker)
        .replace("{prefix}", PREFIX)
}

fn config(port: u16, definitions: &Path) -> String {
    [
        &format!("listeners.tcp.1 = 127.0.0.1:{port}"),
        // Read at every start: users that are there get the passwords in it.
        &format!("load_definitions = {}", definitions.display()),
        // The default stops publishers at 50 MB free, and its sign is silence.
        "disk_free_limit.absolute = 50MB",
        "log.console = true",
        "log.console.level = warning",
        "log.file = false",
    ]
    .join("\n")
        + "\n"
}

/// A random text that is made at the first call and read at every later one.
fn lasting_secret(file: &Path) -> Result<String> {
    if !file.exists() {
        write_private(file, &random_text(24))?;
    }
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn spawn_mapper(folder: &Path, port: u16, scratch: Option<&TempDir>) -> Result<Process> {
    let epmd = find_program("epmd").context("epmd (Erlang) is not installed")?;
    let mut command = Command::new(epmd);
    command.args(["-port", &port.to_string(), "-address", "127.0.0.1"]).current_dir(folder);
    Process::spawn("epmd", &mut command, Signal::Term, &folder.join("epmd.log"))?
        .guarded(scratch.map(TempDir::path).as_slice())
}

fn spawn_node(folder: &Path, mapper_port: u16, scratch: Option<&TempDir>) -> Result<Process> {
    let mut command = Command::new(Programs::rabbitmq_server()?);
    set_environment(&mut command, folder, mapper_port);
    command
        .env("RABBITMQ_DIST_PORT", free_port().to_string())
        // Makes the script replace itself by the node instead of watching over it, so that the
        // process we know is the node. It would then read its input: not that.
        .env("RABBITMQ_ALLOW_INPUT", "true")
        .env("RABBITMQ_SERVER_START_ARGS", "-noinput")
        .current_dir(folder);
    Process::spawn("rabbitmq-server", &mut command, Signal::Term, &folder.join("rabbit.log"))?
        .guarded(scratch.map(TempDir::path).as_slice())
}

/// Everything the server's scripts would otherwise take from the system's own node.
fn set_environment(command: &mut Command, folder: &Path, mapper_port: u16) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("RABBITMQ_") || text.starts_with("ERL_") || text == "NOTIFY_SOCKET" {
            command.env_remove(&name);
        }
    }
    let places = [
        ("HOME", "home"),
        ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
        ("RABBITMQ_CONF_ENV_FILE", "env.conf"),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", "plugins"),
        ("RABBITMQ_MNESIA_BASE", "mnesia"),
        ("RABBITMQ_LOG_BASE", "log"),
        ("RABBITMQ_PID_FILE", "rabbit.pid"),
        ("RABBITMQ_GENERATED_CONFIG_DIR", "generated"),
        ("RABBITMQ_SCHEMA_DIR", "schema"),
    ];
    for (name, place) in places {
        command.env(name, folder.join(place));
    }
    command
        // One node name for all: each has a port mapper, and so a space of names, of its own.
        .env("RABBITMQ_NODENAME", "slotrush@localhost")
        .env("RABBITMQ_LOGS", "-")
        .env("ERL_EPMD_PORT", mapper_port.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        // Idle schedulers spin by default and take the cores from what is being tested.
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+sbwt none +sbwtdcpu none +sbwtdio none");
}

async fn ready(node: &mut Process, port: u16) -> Result<()> {
    node.ready(READY_WITHIN, || answers(port)).await
}

/// Does it greet as an AMQP broker does?
async fn answers(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.write_all(b"AMQP\x00\x00\x09\x01").await.ok()?;
        stream.read_u8().await.ok()
    };
    matches!(tokio::time::timeout(Duration::from_secs(2), ask).await, Ok(Some(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventually::eventually;

    #[tokio::test]
    async fn rabbit_answers_comes_back_after_a_kill_and_leaves_nothing() {
        let mut rabbit = Rabbit::start().await.expect("starts");
        assert!(answers(rabbit.port()).await);
        rabbit.kill().await.expect("dies");
        assert!(!answers(rabbit.port()).await);
        rabbit.restart().await.expect("restarts");
        let users = rabbit.ctl(&["list_users"]).await.expect("rabbitmqctl works");
        assert!(users.contains(USER), "{users}");
        let text = rabbit.folder.display().to_string();
        drop(rabbit);
        let gone = || async { (!is_anyone_using(&text)).then_some(()) };
        eventually("the end", Duration::from_secs(5), gone).await.expect("nobody is left");
    }

    /// Is there a process with this text in its environment?
    fn is_anyone_using(text: &str) -> bool {
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        let mut environments =
            processes.filter_map(|entry| fs::read(entry.path().join("environ")).ok());
        environments.any(|bytes| String::from_utf8_lossy(&bytes).contains(text))
    }
}
