//! Everything that is measured: private servers, one gateway and one worker as they run anywhere, and
//! what they are compared with.

mod bare;
mod crowd;
mod offer;
mod other;
mod past;
mod published;
mod work;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use booking::AccountId;
use e2e::Program;
use e2e::accounts::{Account, Accounts, RedisUser};
use e2e::system::{address, key_files, prepare_database, target};
use ledger::audit::Part;
use rush::audit::Probe;
use rush::settings::Target;
use rush::tokens::Minter;
use secrecy::SecretString;
use testkit::{Postgres, Process, Rabbit, Redis, ensure_database, free_port, unique};

pub use bare::Bare;
pub use crowd::Crowd;
pub use offer::Offer;
pub use other::{Drained, Other};
pub use published::Published;
pub use work::{Again, Bookings, Taken};

/// How long nothing may move before a round is judged.
const REST_MAX: Duration = Duration::from_mins(2);
/// How long a gateway may read what stands before it is ready: of a whole run, some millions of bookings.
const READY_MAX: Duration = Duration::from_mins(10);
/// Rows that are audited in one statement.
const AUDITED_ROWS: u32 = 20_000;

/// What runs. Fields end in this order: the programs first.
#[derive(Debug)]
pub struct World {
    /// The gateway.
    pub gateway: Program,
    /// The worker that persists. What else a worker does, the reconciler does: one that is paused while it
    /// holds a lock in PostgreSQL would stop the gateway, too.
    pub worker: Program,
    reconciler: Program,
    /// Looks at the three servers.
    pub probe: Probe,
    /// Where they are, and what is what there.
    target: Target,
    /// Who may come.
    pub crowd: Arc<Crowd>,
    /// Where the gateway's patients connect.
    pub port: u16,
    /// What a gateway is told, but for its ports.
    of_gateway: Settings,
    /// Who makes what is on offer.
    admin: AccountId,
    database: String,
    keys: PathBuf,
    folder: PathBuf,
    /// Whether there are slots of other days.
    has_past: bool,
    redis: Redis,
    rabbit: Rabbit,
    postgres: Postgres,
}

/// What a program is told.
type Settings = Vec<(&'static str, String)>;

/// The processes whose processor time is told, by their names in the report.
pub type Parts = Vec<(&'static str, u32)>;

impl World {
    /// Starts everything in `folder`, which is empty, with so many partitions; returns when the programs
    /// are ready and `patients` have accounts and tokens.
    ///
    /// # Errors
    /// If anything does not start.
    pub async fn start(folder: &Path, partitions: u8, patients: u32) -> Result<Self> {
        let users = RedisUser::both_secret();
        let lines = users.each_ref().map(RedisUser::line);
        let lines = lines.each_ref().map(String::as_str);
        let redis = Redis::start_in(&folder.join("redis"), free_port(), &lines).await?;
        let rabbit = Rabbit::start_in(&folder.join("rabbit"), free_port()).await?;
        let postgres = Postgres::start_in(&folder.join("postgres"), free_port()).await?;
        let database = ensure_database(&postgres.url(), "slotrush").await?;
        let accounts = Accounts::make_private(&database, &redis.url(), &users, &rabbit).await?;
        let shared = vec![
            ("SLOTRUSH_REDIS_URL", redis.url()),
            ("SLOTRUSH_AMQP_URL", rabbit.url()),
            ("SLOTRUSH_DATABASE_URL", database.clone()),
            ("SLOTRUSH_QUEUE_PREFIX", unique()),
            ("SLOTRUSH_PARTITIONS", partitions.to_string()),
        ];
        let keys = folder.join("keys");
        let password = SecretString::from(unique());
        prepare_database(&shared, &keys, Some(&accounts), &password).await?;
        let of_gateway = of_gateway(&shared, &keys, &accounts.gateway);
        let (gateway, port) = start_gateway(&of_gateway, &folder.join("gateway.log")).await?;
        let [worker, reconciler] = start_workers(&shared, &accounts.worker, folder).await?;
        let target = target(&shared)?;
        let probe = Probe::new(&target)?;
        let admin = offer::find_admin(&database).await?;
        let minter = Minter::load(&keys.join(gateway::auth::keys::TOKEN_KEY))?;
        let crowd = Arc::new(Crowd::gather(probe.ledger(), &minter, patients).await?);
        let folder = folder.to_path_buf();
        Ok(Self {
            gateway,
            worker,
            reconciler,
            probe,
            target,
            crowd,
            port,
            of_gateway,
            admin,
            database,
            keys,
            folder,
            has_past: false,
            redis,
            rabbit,
            postgres,
        })
    }

    /// Starts another one in a folder of this one's, beside it.
    ///
    /// # Errors
    /// If anything does not start.
    pub async fn beside(&self, name: &str, partitions: u8, patients: u32) -> Result<Self> {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder)?;
        Self::start(&folder, partitions, patients).await
    }

    /// Stops everything, and deletes the data.
    ///
    /// # Errors
    /// If the data can't be deleted.
    pub fn end(self) -> Result<()> {
        let folder = self.folder.clone();
        drop(self);
        Postgres::delete_elsewhere(&folder.join("postgres"));
        std::fs::remove_dir_all(&folder).context("deleting the data")
    }

    /// Starts one more gateway, called `name`; it ends when it is dropped. Returns where its patients
    /// connect, too.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn another_gateway(&self, name: &str) -> Result<(Program, u16)> {
        start_gateway(&self.of_gateway, &self.folder.join(format!("{name}.log"))).await
    }

    /// Gives everybody a new token: one is good for a quarter of an hour, and a whole run takes longer.
    ///
    /// # Errors
    /// If the key can't be read.
    pub fn renew_tokens(&mut self) -> Result<()> {
        let minter = Minter::load(&self.keys.join(gateway::auth::keys::TOKEN_KEY))?;
        self.crowd = Arc::new(self.crowd.renewed(&minter)?);
        Ok(())
    }

    /// The processes of the pipeline.
    pub fn parts(&self) -> Parts {
        vec![
            ("gateway", self.gateway.id().pid),
            ("worker", self.worker.id().pid),
            ("reconciler", self.reconciler.id().pid),
            ("redis", self.redis.pid()),
            ("rabbitmq", self.rabbit.pid()),
            ("postgres", self.postgres.pid()),
        ]
    }

    /// The port of the pipeline's Redis.
    pub fn redis_port(&self) -> u16 {
        self.redis.port()
    }

    /// The broker's first process.
    pub fn rabbit_pid(&self) -> u32 {
        self.rabbit.pid()
    }

    /// PostgreSQL's first process.
    pub fn postgres_pid(&self) -> u32 {
        self.postgres.pid()
    }

    /// PostgreSQL's address, as its owner.
    pub fn postgres_url(&self) -> String {
        self.postgres.url()
    }

    /// The broker's address, as its owner.
    pub fn amqp_url(&self) -> String {
        self.rabbit.url()
    }

    /// Waits until nothing moves, then asks PostgreSQL for broken invariants.
    ///
    /// # Errors
    /// If something still moves after two minutes, or an invariant is broken.
    pub async fn rest(&self) -> Result<()> {
        self.settle().await?;
        self.audit().await
    }

    /// Waits until nothing moves.
    ///
    /// # Errors
    /// If something still moves after two minutes.
    pub async fn settle(&self) -> Result<()> {
        let restless = self.probe.settle(REST_MAX).await.restless();
        ensure!(restless.is_empty(), "no rest: {}", restless.join(", "));
        Ok(())
    }

    /// Asks PostgreSQL for broken invariants, but not at the slots of other days.
    ///
    /// # Errors
    /// If there are any.
    pub async fn audit(&self) -> Result<()> {
        let mut next = Some(Part::FIRST);
        while let Some(part) = next {
            let audited = self.probe.ledger().audit_part(part, AUDITED_ROWS).await;
            let audited = audited.context("auditing")?;
            ensure!(audited.violations.is_empty(), "broken: {:?}", audited.violations);
            next = audited.next.map(|next| self.without_past(next));
        }
        Ok(())
    }

    /// Asks PostgreSQL for broken invariants, everywhere.
    ///
    /// # Errors
    /// If there are any.
    pub async fn audit_all(&self) -> Result<()> {
        let found = self.probe.ledger().audit().await.context("auditing")?;
        ensure!(found.is_empty(), "broken: {found:?}");
        Ok(())
    }

    /// Runs SQL as the owner of the pipeline's tables; returns columns separated by `|`.
    ///
    /// # Errors
    /// If it fails.
    pub async fn sql(&self, text: &str) -> Result<String> {
        psql(&self.database, text).await
    }
}

/// The settings that programs share, with the addresses of one's own account.
fn with_account(shared: &Settings, account: &Account) -> Settings {
    let mut settings = shared.clone();
    for (name, value) in &mut settings {
        match *name {
            "SLOTRUSH_REDIS_URL" => value.clone_from(&account.redis),
            "SLOTRUSH_AMQP_URL" => value.clone_from(&account.amqp),
            "SLOTRUSH_DATABASE_URL" => value.clone_from(&account.database),
            _ => {}
        }
    }
    settings
}

fn of_gateway(shared: &Settings, keys: &Path, account: &Account) -> Settings {
    let mut settings = with_account(shared, account);
    settings.extend(key_files(keys));
    // Everybody comes from an address of their own, which a header tells.
    settings.push(("SLOTRUSH_TRUSTED_PROXIES", "127.0.0.0/8".to_owned()));
    settings
}

async fn start_gateway(settings: &Settings, log: &Path) -> Result<(Program, u16)> {
    let (port, admin_port) = (free_port(), free_port());
    let mut settings = settings.clone();
    settings.push(("SLOTRUSH_LISTEN", address(port)));
    settings.push(("SLOTRUSH_ADMIN_LISTEN", address(admin_port)));
    let mut gateway = Program::start("gateway", settings, admin_port, log.to_path_buf())?;
    gateway.ready_within(READY_MAX).await?;
    Ok((gateway, port))
}

async fn start_workers(
    shared: &Settings,
    account: &Account,
    folder: &Path,
) -> Result<[Program; 2]> {
    let start = |name: &str, roles: &str| {
        let admin_port = free_port();
        let mut settings = with_account(shared, account);
        settings.push(("SLOTRUSH_WORKER_ADMIN_LISTEN", address(admin_port)));
        settings.push(("SLOTRUSH_WORKER_ROLES", roles.to_owned()));
        Program::start("booking-worker", settings, admin_port, folder.join(format!("{name}.log")))
    };
    let mut workers = [start("worker", "consume,relay")?, start("reconciler", "reconcile")?];
    for worker in &mut workers {
        worker.ready().await?;
    }
    Ok(workers)
}

/// Runs SQL with PostgreSQL's own client.
pub(crate) async fn psql(database: &str, text: &str) -> Result<String> {
    let bin = testkit::Programs::find().postgres_bin.context("psql is not installed")?;
    let mut command = tokio::process::Command::new(bin.join("psql"));
    // Longer than an argument may be.
    let script = tempfile::NamedTempFile::new()?;
    std::fs::write(&script, text)?;
    command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, "-f"]).arg(script.path());
    output(&mut command).await
}

/// Runs a command to its end; returns what it printed.
pub(crate) async fn output(command: &mut tokio::process::Command) -> Result<String> {
    let output = command.kill_on_drop(true).output().await.context("cannot start a program")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {errors}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Starts a program of this build that is no part of the product.
fn spawn(name: &str, command: &mut std::process::Command, log: &Path) -> Result<Process> {
    Process::spawn(name, command, testkit::Signal::Term, log)?.guarded(&[])
}
