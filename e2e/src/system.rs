//! A whole system: servers, programs, a release on offer, and a crowd that may come for it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use booking::{Partition, PartitionCount};
use hyper::header::HeaderValue;
use ledger::Ledger;
use rush::audit::Probe;
use rush::client::Client;
use rush::history::{Event, Plan};
use rush::prepare::{self, Member};
use rush::settings::Target;
use rush::tokens::Minter;
use secrecy::{ExposeSecret as _, SecretString};
use tempfile::TempDir;
use testkit::{Database, Proxy, Redis, free_port, unique};
use tokio::sync::OnceCell;
use url::Url;

use crate::accounts::{Account, Accounts, start_redis};
use crate::admin::{ADMIN, preparation};
use crate::person::Events;
use crate::program::{Program, command};
use crate::reach::redis_command;
use crate::{Options, Person, SOON};

/// Of every system here.
pub const PARTITIONS: u8 = 2;
/// Keep-alive connections of patients who act one by one.
const CONNECTIONS: usize = 16;
/// How long their requests may take: nothing of what they ask waits longer than a second.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A running system. Fields end in this order: the programs first.
#[derive(Debug)]
pub struct System {
    /// The gateways.
    pub gateways: Vec<Program>,
    /// The workers.
    pub workers: Vec<Program>,
    /// What is on offer.
    pub plan: Plan,
    /// Who may come.
    pub members: Vec<Member>,
    pub(crate) networks: Option<Networks>,
    pub(crate) clients: Vec<Arc<Client>>,
    pub(crate) minter: Minter,
    pub(crate) probe: Probe,
    pub(crate) target: Target,
    pub(crate) events: Events,
    pub(crate) admin_password: SecretString,
    /// The admin's `Authorization` header, once it is needed.
    pub(crate) admin: OnceCell<HeaderValue>,
    /// From then on one key may have two ids (I8).
    pub(crate) redis_was_lost: bool,
    pub(crate) is_clean: bool,
    gateway_ports: Vec<u16>,
    redis: Redis,
    _database: Database,
    folder: Option<TempDir>,
}

/// The network to PostgreSQL, as each program sees it.
#[derive(Debug)]
pub struct Networks {
    /// Of the gateways.
    pub gateways: Proxy,
    /// Of the workers.
    pub workers: Proxy,
}

impl Networks {
    async fn start(accounts: &Accounts, is_wanted: bool) -> Result<Option<Self>> {
        if !is_wanted {
            return Ok(None);
        }
        let gateways = Proxy::start(&accounts.gateway.database).await?;
        let workers = Proxy::start(&accounts.worker.database).await?;
        Ok(Some(Self { gateways, workers }))
    }
}

impl System {
    /// Starts everything; returns when the places stand in Redis and the release is open.
    pub async fn start(options: Options) -> Result<Self> {
        let folder = TempDir::with_prefix("slotrush-e2e-")?;
        let redis = start_redis(&folder.path().join("redis"), free_port()).await?;
        let database = Database::create().await?;
        let accounts = Accounts::make(&database, &redis).await?;
        let networks = Networks::start(&accounts, options.has_fragile_network).await?;
        let admin_password = SecretString::from(unique());
        let shared = vec![
            ("SLOTRUSH_REDIS_URL", redis.url()),
            ("SLOTRUSH_AMQP_URL", testkit::amqp_url().await?),
            ("SLOTRUSH_DATABASE_URL", database.url()),
            ("SLOTRUSH_QUEUE_PREFIX", unique()),
            ("SLOTRUSH_PARTITIONS", PARTITIONS.to_string()),
        ];
        let target = target(&shared)?;
        let keys = folder.path().join("keys");
        prepare_database(&shared, &keys, Some(&accounts), &admin_password).await?;
        let mut start = Start { shared, keys, accounts, folder: folder.path(), options: &options };
        let mut workers = start.workers(networks.as_ref())?;
        let (mut gateways, gateway_ports) = start.gateways(networks.as_ref())?;
        for program in gateways.iter_mut().chain(&mut workers) {
            program.ready().await?;
        }
        let clients = gateway_ports
            .iter()
            .map(|port| Ok(Arc::new(Client::new(&url_of(*port)?, CONNECTIONS, REQUEST_TIMEOUT)?)));
        let clients = clients.collect::<Result<Vec<_>>>()?;
        let probe = Probe::new(&target)?;
        let members = prepare::gather(probe.ledger(), options.patients).await?;
        let minter = Minter::load(&start.keys.join(gateway::auth::keys::TOKEN_KEY))?;
        let what = preparation(admin_password.expose_secret(), options.places, options.slots);
        let plan = prepare::release(&clients[0], &what).await?;
        Ok(Self {
            gateways,
            workers,
            plan,
            members,
            networks,
            clients,
            minter,
            probe,
            target,
            events: Events::default(),
            admin_password,
            admin: OnceCell::new(),
            redis_was_lost: false,
            is_clean: false,
            gateway_ports,
            redis,
            _database: database,
            folder: Some(folder),
        })
    }

    /// Returns the patient of this number, at this gateway.
    pub fn person(&self, number: usize, gateway: usize) -> Result<Person> {
        let member = *self.members.get(number).context("so many patients there are not")?;
        let headers = vec![("authorization", self.minter.mint(member)?)];
        let client = Arc::clone(&self.clients[gateway]);
        Ok(Person { member, headers, client, events: self.events.clone() })
    }

    /// Returns everything anybody asked and heard so far.
    pub fn events(&self) -> Vec<Event> {
        self.events.all()
    }

    /// Returns the partition where all places are.
    pub fn partition(&self) -> Partition {
        self.target.partitions.of_slot(self.plan.offers[0].slot)
    }

    /// Returns PostgreSQL, reached directly.
    pub fn ledger(&self) -> &Ledger {
        self.probe.ledger()
    }

    /// Returns the address of the database, for tools of PostgreSQL.
    pub fn database_url(&self) -> &SecretString {
        &self.target.database_url
    }

    /// Returns the network to PostgreSQL, which can be cut.
    pub fn networks(&self) -> Result<&Networks> {
        self.networks.as_ref().context("this system has no fragile network")
    }

    /// Returns a client of the gateway of this number.
    pub fn client(&self, gateway: usize) -> &Client {
        &self.clients[gateway]
    }

    /// Returns the folder with everything this system writes: logs, and what Redis has on disk.
    pub fn folder(&self) -> Result<&Path> {
        Ok(self.folder.as_ref().context("the folder is there until the end")?.path())
    }

    /// Returns how to reach this system's queues.
    pub fn queues(&self) -> broker::Settings {
        broker::Settings {
            url: self.target.amqp_url.clone(),
            prefix: self.target.queue_prefix.clone(),
            partitions: self.target.partitions,
            lanes: 1,
            confirm_timeout_ms: 5_000,
            waiting_max: 1,
            prefetch: 100,
            batch_bookings_max: 1,
            batch_wait_ms: 1,
        }
    }

    /// Empties Redis: it forgets everything, and its process lives on.
    pub async fn flush_redis(&mut self) -> Result<()> {
        self.redis_was_lost = true;
        let answer = redis_command(self.redis.port(), "FLUSHALL").await?;
        ensure!(answer == "+OK", "{answer}");
        Ok(())
    }

    /// `kill -9` for Redis; another, empty one takes its place.
    pub async fn replace_redis(&mut self) -> Result<()> {
        self.redis_was_lost = true;
        self.redis.kill().await?;
        let folder = self.folder()?.join("redis");
        std::fs::remove_dir_all(&folder)?;
        let port = self.redis.port();
        self.redis = start_redis(&folder, port).await?;
        Ok(())
    }

    /// Returns where the gateway of this number is.
    pub fn gateway_url(&self, gateway: usize) -> Result<Url> {
        url_of(*self.gateway_ports.get(gateway).context("so many gateways there are not")?)
    }

    /// Returns what the programs complained of, for an error message.
    pub(crate) fn complaints(&self) -> String {
        let logs = self.gateways.iter().chain(&self.workers).filter_map(|p| p.log().ok());
        let lines: Vec<String> = logs
            .flat_map(|log| log.lines().map(str::to_owned).collect::<Vec<_>>())
            .filter(|line| line.contains("\"ERROR\"") || line.contains("\"WARN\""))
            .take(40)
            .collect();
        lines.join("\n")
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if !self.is_clean
            && let Some(folder) = self.folder.take()
        {
            eprintln!("not audited, or not clean: logs are in {}", folder.keep().display());
        }
    }
}

/// What is needed to start the programs.
struct Start<'a> {
    shared: Vec<(&'static str, String)>,
    keys: PathBuf,
    accounts: Accounts,
    folder: &'a Path,
    options: &'a Options,
}

impl Start<'_> {
    fn workers(&mut self, networks: Option<&Networks>) -> Result<Vec<Program>> {
        let one = |number| {
            let admin_port = free_port();
            let network = networks.map(|networks| &networks.workers);
            let mut settings = self.settings(&self.accounts.worker, network);
            settings.push(("SLOTRUSH_WORKER_ADMIN_LISTEN", address(admin_port)));
            // So that a broken invariant is found while it lasts.
            settings.push(("SLOTRUSH_AUDIT_INTERVAL_SECONDS", "1".to_owned()));
            let log = self.folder.join(format!("booking-worker-{number}.log"));
            Program::start("booking-worker", settings, admin_port, log)
        };
        (0..self.options.workers).map(one).collect()
    }

    fn gateways(&mut self, networks: Option<&Networks>) -> Result<(Vec<Program>, Vec<u16>)> {
        let one = |number| {
            let (port, admin_port) = (free_port(), free_port());
            let network = networks.map(|networks| &networks.gateways);
            let mut settings = self.settings(&self.accounts.gateway, network);
            settings.extend(key_files(&self.keys));
            settings.push(("SLOTRUSH_LISTEN", address(port)));
            settings.push(("SLOTRUSH_ADMIN_LISTEN", address(admin_port)));
            // The crowd comes from addresses of its own, through a proxy.
            settings.push(("SLOTRUSH_TRUSTED_PROXIES", "127.0.0.0/8".to_owned()));
            let log = self.folder.join(format!("gateway-{number}.log"));
            Ok((Program::start("gateway", settings, admin_port, log)?, port))
        };
        let both = (0..self.options.gateways).map(one).collect::<Result<Vec<_>>>()?;
        Ok(both.into_iter().unzip())
    }

    fn settings(&self, account: &Account, network: Option<&Proxy>) -> Vec<(&'static str, String)> {
        let own = [
            ("SLOTRUSH_DATABASE_URL", network.map_or_else(|| account.database.clone(), Proxy::url)),
            ("SLOTRUSH_REDIS_URL", account.redis.clone()),
            ("SLOTRUSH_AMQP_URL", account.amqp.clone()),
        ];
        let mut settings = self.shared.clone();
        settings.retain(|(name, _)| own.iter().all(|(known, _)| known != name));
        settings.extend(own);
        if !self.options.log.is_empty() {
            settings.push(("SLOTRUSH_LOG", self.options.log.to_owned()));
        }
        let more = self.options.settings.iter();
        settings.extend(more.map(|(name, value)| (*name, (*value).to_owned())));
        settings
    }
}

/// What an operator does before the first start: keys, tables, queues, an admin.
pub async fn prepare_database(
    shared: &[(&'static str, String)],
    keys: &Path,
    accounts: Option<&Accounts>,
    password: &SecretString,
) -> Result<()> {
    let mut settings = shared.to_vec();
    settings.extend(key_files(keys));
    settings.push(("SLOTRUSH_ADMIN_PASSWORD", password.expose_secret().to_owned()));
    let mut keygen = command("gateway", &settings)?;
    keygen.arg("keygen").arg("--dir").arg(keys);
    let mut migrate = command("gateway", &settings)?;
    migrate.arg("migrate");
    if let Some(accounts) = accounts {
        migrate.args(["--gateway-role", &accounts.gateway.role]);
        migrate.args(["--worker-role", &accounts.worker.role]);
    }
    let mut declare = command("gateway", &settings)?;
    declare.arg("declare-queues");
    tokio::try_join!(succeed(keygen), succeed(migrate), succeed(declare))?;
    let mut create_admin = command("gateway", &settings)?;
    create_admin.args(["create-admin", "--login", ADMIN]);
    succeed(create_admin).await
}

async fn succeed(command: Command) -> Result<()> {
    let mut command = tokio::process::Command::from(command);
    let output = command.kill_on_drop(true).output();
    let output = tokio::time::timeout(SOON, output).await.context("a command hangs")??;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Where such a system is, for those who look at it.
pub fn target(shared: &[(&'static str, String)]) -> Result<Target> {
    let value = |name| {
        let found = shared.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.clone()).context(name)
    };
    Ok(Target {
        gateway: url_of(1)?,
        database_url: value("SLOTRUSH_DATABASE_URL")?.into(),
        redis_url: value("SLOTRUSH_REDIS_URL")?.into(),
        amqp_url: value("SLOTRUSH_AMQP_URL")?.into(),
        queue_prefix: value("SLOTRUSH_QUEUE_PREFIX")?,
        partitions: PartitionCount::new(value("SLOTRUSH_PARTITIONS")?.parse()?)
            .context("1 to 64 partitions")?,
    })
}

/// Settings that name the keys in this folder.
pub fn key_files(keys: &Path) -> [(&'static str, String); 2] {
    use gateway::auth::keys::{DATA_KEY, TOKEN_KEY};
    let path = |name| keys.join(name).display().to_string();
    [("SLOTRUSH_TOKEN_KEY_FILE", path(TOKEN_KEY)), ("SLOTRUSH_DATA_KEY_FILE", path(DATA_KEY))]
}

/// `127.0.0.1:port`
pub fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// `http://127.0.0.1:port`
pub fn url_of(port: u16) -> Result<Url> {
    Ok(Url::parse(&format!("http://{}", address(port)))?)
}
