//! A private PostgreSQL.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::eventually::random_text;
use crate::port::free_port;
use crate::process::{Process, write_private};
use crate::process_id::{Server, Signal};
use crate::programs::Programs;

/// What production runs with.
const SETTINGS: &str = include_str!("../../deploy/postgres/postgresql.conf");

const READY_WITHIN: Duration = Duration::from_mins(1);
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Says where the data is when it could not be under the folder itself.
const ELSEWHERE_FILE: &str = "data.path";

/// A private PostgreSQL with fsync on and a superuser `postgres` with a random password, listening on
/// 127.0.0.1 only. Ended on drop, with the data of one that has a scratch folder.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: u16,
    password: String,
    folder: PathBuf,
    data: PathBuf,
    scratch: Option<TempDir>,
}

impl Postgres {
    /// Starts an empty one in a scratch folder, on a free port. About a second.
    pub async fn start() -> Result<Self> {
        Self::start_scratch(&std::env::temp_dir()).await
    }

    /// The same with the scratch folder in `parent`.
    pub async fn start_scratch(parent: &Path) -> Result<Self> {
        let scratch = TempDir::with_prefix_in("slotrush-postgres-", parent)?;
        let folder = scratch.path().to_path_buf();
        Self::launch(&folder, free_port(), Some(scratch)).await
    }

    /// Starts the one whose data is in `folder`, creating it if there is none. The data stays.
    pub async fn start_in(folder: &Path, port: u16) -> Result<Self> {
        Self::launch(folder, port, None).await
    }

    /// `postgres://postgres:password@127.0.0.1:port/postgres`, the superuser's URL.
    pub fn url(&self) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/postgres", self.password, self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its first process.
    pub fn pid(&self) -> u32 {
        self.process.id().pid
    }

    /// Ends it without a checkpoint: the next start recovers as after a crash.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.id().signal(Signal::Quit);
        self.process.stop(STOP_WITHIN).await;
        Ok(())
    }

    /// SIGKILL to all its processes at once, as when the power fails, and waits for its end.
    pub async fn crash(&mut self) -> Result<()> {
        let id = self.process.id();
        // Children found first: killed before their parent they would only be replaced.
        id.signal_tree(Signal::Stop);
        id.signal_tree(Signal::Kill);
        self.process.stop(STOP_WITHIN).await;
        Ok(())
    }

    /// Makes all its processes stand still (SIGSTOP): connections stay open, nothing is answered.
    pub fn pause(&self) {
        self.process.id().signal_tree(Signal::Stop);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.process.id().signal_tree(Signal::Cont);
    }

    /// Starts it again on the same port and data, ending it first if it still runs.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.stop(STOP_WITHIN).await;
        self.process = spawn(&self.folder, &self.data, self.port, self.scratch.as_ref())?;
        ready(&mut self.process, self.port).await
    }

    /// Lets it, and its data, outlive this process.
    pub fn detach(mut self) -> Server {
        if let Some(scratch) = self.scratch.take() {
            let _ = scratch.keep();
        }
        Server { url: self.url(), processes: vec![self.process.detach()] }
    }

    /// Deletes the data of a stopped one that lies outside its folder; the folder is the caller's.
    pub fn delete_elsewhere(folder: &Path) {
        if let Ok(text) = fs::read_to_string(folder.join(ELSEWHERE_FILE)) {
            let _ = fs::remove_dir_all(text.trim());
        }
    }

    async fn launch(folder: &Path, port: u16, scratch: Option<TempDir>) -> Result<Self> {
        let folder = std::path::absolute(folder)?;
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        if scratch.is_some() {
            // Scratch folders are made for their owner alone; the data's owner must pass through.
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o711))?;
        }
        let data = data_folder(&folder)?;
        let password_file = folder.join("postgres.password");
        if !data.join("PG_VERSION").exists() {
            write_private(&password_file, &random_text(24))?;
            initialize(&folder, &data, &password_file)?;
        }
        let password = fs::read_to_string(&password_file)
            .with_context(|| format!("cannot read {}", password_file.display()))?;
        fs::write(data.join("postgresql.conf"), SETTINGS)?;
        buried(&data).await;
        let mut process = spawn(&folder, &data, port, scratch.as_ref())?;
        ready(&mut process, port).await?;
        Ok(Self { process, port, password: password.trim().to_owned(), folder, data, scratch })
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.scratch.is_some() {
            // Before the folders go, which is after this.
            self.process.end();
            Self::delete_elsewhere(&self.folder);
        }
    }
}

/// Who owns the data: PostgreSQL refuses to run as root, so then it is the system's user `postgres`.
fn owner() -> Result<Option<(u32, u32)>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let mut ids = line.context("no system user postgres")?.split(':').skip(2);
    let mut id = || ids.next().and_then(|id| id.parse().ok()).context("malformed /etc/passwd");
    Ok(Some((id()?, id()?)))
}

/// The data folder, created and owned as PostgreSQL wants it.
fn data_folder(folder: &Path) -> Result<PathBuf> {
    let data = folder.join("data");
    let Some((user, group)) = owner()? else {
        return Ok(data);
    };
    let elsewhere = folder.join(ELSEWHERE_FILE);
    let recorded = fs::read_to_string(&elsewhere).map(|text| PathBuf::from(text.trim()));
    let data = match recorded {
        Ok(data) if data.is_dir() => data,
        _ if folder.ancestors().all(|parent| is_traversable(parent, user)) => data,
        // A home folder of root, say: its user `postgres` cannot get in.
        _ => {
            let data = TempDir::with_prefix("slotrush-postgres-")?.keep();
            fs::write(&elsewhere, data.display().to_string())?;
            data
        }
    };
    fs::create_dir_all(&data)?;
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700))?;
    chown(&data, Some(user), Some(group))?;
    Ok(data)
}

fn is_traversable(folder: &Path, user: u32) -> bool {
    fs::metadata(folder).is_ok_and(|folder| {
        let needed = if folder.uid() == user { 0o100 } else { 0o001 };
        folder.mode() & needed != 0
    })
}

fn program(name: &str) -> Result<Command> {
    let mut command = Command::new(Programs::postgres_bin()?.join(name));
    // A folder its user may not read would be an error; a foreign PGDATA or PGPORT a surprise.
    command.current_dir("/");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(&name);
        }
    }
    if let Some((user, group)) = owner()? {
        command.uid(user).gid(group);
    }
    Ok(command)
}

fn initialize(folder: &Path, data: &Path, password_file: &Path) -> Result<()> {
    // initdb reads the password as its own user, who may not enter the folder.
    let readable = tempfile::NamedTempFile::new()?;
    fs::copy(password_file, readable.path())?;
    if let Some((user, group)) = owner()? {
        chown(readable.path(), Some(user), Some(group))?;
    }
    let output = program("initdb")?
        .arg("--pgdata")
        .arg(data)
        .args(["--username=postgres", "--auth=password", "--pwfile"])
        .arg(readable.path())
        .args(["--encoding=UTF8", "--locale=C", "--no-sync"])
        .stdin(Stdio::null())
        .output()
        .context("cannot start initdb")?;
    fs::write(folder.join("initdb.log"), [&output.stdout[..], &output.stderr[..]].concat())?;
    if !output.status.success() {
        bail!("initdb: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Waits until a killed predecessor is reaped. PostgreSQL takes one that is dead but still listed for
/// one that runs, and not every first process of a machine is quick to reap.
async fn buried(data: &Path) {
    let Ok(lock) = fs::read_to_string(data.join("postmaster.pid")) else { return };
    let Some(pid) = lock.lines().next() else { return };
    let stat = PathBuf::from(format!("/proc/{}/stat", pid.trim()));
    let is_corpse = || {
        let stat = fs::read_to_string(&stat).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
    };
    let deadline = tokio::time::Instant::now() + STOP_WITHIN;
    while is_corpse() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(crate::process_id::POLL).await;
    }
}

fn spawn(folder: &Path, data: &Path, port: u16, scratch: Option<&TempDir>) -> Result<Process> {
    let mut command = program("postgres")?;
    command.arg("-D").arg(data).args(["-p", &port.to_string()]);
    let settings = [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=200",
        // Whatever the language of who runs it.
        "lc_messages=C",
        "log_min_messages=warning",
    ];
    for setting in settings {
        command.args(["-c", setting]);
    }
    let log = folder.join("postgres.log");
    Process::spawn("postgres", &mut command, Signal::Int, &log)?
        .guarded(scratch.map(TempDir::path).as_slice())
}

async fn ready(process: &mut Process, port: u16) -> Result<()> {
    process.ready(READY_WITHIN, || answers(port)).await
}

/// Does it accept connections? While starting up it answers a start-up packet with an error, once
/// up with a request for the password.
async fn answers(port: u16) -> bool {
    const START: &[u8] = b"\x00\x00\x00\x17\x00\x03\x00\x00user\x00postgres\x00\x00";
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.write_all(START).await.ok()?;
        stream.read_u8().await.ok()
    };
    matches!(tokio::time::timeout(Duration::from_secs(1), ask).await, Ok(Some(b'R')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventually;
    use crate::process_id::{ProcessId, children};

    #[tokio::test]
    async fn postgres_comes_back_after_a_crash_and_a_pause() {
        let mut postgres = Postgres::start().await.expect("starts");
        postgres.crash().await.expect("dies");
        assert!(!answers(postgres.port()).await);
        postgres.restart().await.expect("recovers");
        postgres.pause();
        assert!(!answers(postgres.port()).await);
        postgres.resume();
        assert!(answers(postgres.port()).await);
    }

    /// The race: its owner is killed between SIGSTOP and SIGCONT. Its processes have groups of their own.
    #[tokio::test]
    async fn postgres_that_stands_still_dies_with_its_killed_owner() {
        let mut postgres = Postgres::start().await.expect("starts");
        let all = standing_still(&postgres);
        postgres.process.orphan();
        gone(&all).await;
    }

    #[tokio::test]
    async fn postgres_that_stands_still_ends_when_dropped() {
        let postgres = Postgres::start().await.expect("starts");
        let all = standing_still(&postgres);
        drop(postgres);
        gone(&all).await;
    }

    fn standing_still(postgres: &Postgres) -> Vec<ProcessId> {
        postgres.pause();
        let pids = children(postgres.pid()).into_iter().chain([postgres.pid()]);
        let all: Vec<_> = pids.filter_map(ProcessId::of).collect();
        assert!(all.len() > 3, "{all:?}");
        all
    }

    async fn gone(all: &[ProcessId]) {
        let is_over = || async { all.iter().all(|id| !id.is_alive()).then_some(()) };
        let ended = eventually("the end of all its processes", STOP_WITHIN, is_over).await;
        let left: Vec<_> = all.iter().filter(|id| id.is_alive()).collect();
        // Whatever was seen, nothing is left by this test.
        for id in all {
            id.signal(Signal::Kill);
        }
        ended.unwrap_or_else(|error| panic!("{error}: {left:?}"));
    }
}
