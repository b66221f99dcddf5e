//! The system under attack: private servers, two gateways, two workers, and every edge between
//! them a proxy.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rush::client::Client;
use rush::settings::Target;
use rush::tokens::Minter;
use secrecy::{ExposeSecret as _, SecretString};
use testkit::{Postgres, Proxy, Rabbit, ensure_database, free_port, unique};

use super::redis_pair::RedisPair;
use super::report::LostByFailover;
use crate::accounts::{Account, Accounts, RedisUser};
use crate::program::Program;
use crate::system::{PARTITIONS, address, key_files, prepare_database, target, url_of};

/// How many of each program run.
pub(super) const PROGRAMS: usize = 2;
/// What the programs do to their own messages all the time: they publish one envelope in five twice, and
/// persist every batch in another order than it came.
pub(super) const DISTORTIONS: &str = "publish.twice=20%;batch.shuffle=100%";
/// Keep-alive connections of the crowd to each gateway.
const CONNECTIONS: usize = 128;
/// How long a request of the crowd may take: longer than a long-poll of theirs.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The ways from one program to the servers.
#[derive(Debug)]
pub(super) struct Edges {
    pub(super) redis: Proxy,
    pub(super) rabbit: Proxy,
    pub(super) postgres: Proxy,
}

impl Edges {
    pub(super) fn all(&self) -> [&Proxy; 3] {
        [&self.redis, &self.rabbit, &self.postgres]
    }
}

/// Everything that runs. Fields end in this order: the programs first.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) gateways: Vec<Program>,
    pub(super) workers: Vec<Program>,
    /// Of the gateways, then of the workers.
    pub(super) edges: Vec<Edges>,
    /// From the crowd to each gateway.
    pub(super) entrances: Vec<Proxy>,
    /// The checker's own way to whichever Redis is the primary.
    pub(super) lookout: Proxy,
    pub(super) redis: RedisPair,
    pub(super) rabbit: Rabbit,
    pub(super) postgres: Postgres,
    /// What the crowd uses, one for each gateway.
    pub(super) doors: Vec<Arc<Client>>,
    pub(super) minter: Arc<Minter>,
    /// How the checker reaches the servers.
    pub(super) target: Target,
    pub(super) admin_password: SecretString,
    /// What failovers lost since this was last taken.
    pub(super) lost_by_failover: LostByFailover,
}

impl Cluster {
    /// Starts everything in `folder`; returns when the programs are ready.
    pub(super) async fn start(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let users = RedisUser::both_secret();
        let (redis, rabbit, postgres) = (
            RedisPair::start(folder, &users.each_ref().map(RedisUser::line)).await?,
            Rabbit::start_in(&folder.join("rabbit"), free_port()).await?,
            Postgres::start_in(&folder.join("postgres"), free_port()).await?,
        );
        let lookout = Proxy::start(&redis.url()).await?;
        let database = ensure_database(&postgres.url(), "chaos").await?;
        let accounts = Accounts::make_private(&database, &redis.url(), &users, &rabbit).await?;
        let shared = vec![
            ("SLOTRUSH_REDIS_URL", lookout.url()),
            ("SLOTRUSH_AMQP_URL", rabbit.url()),
            ("SLOTRUSH_DATABASE_URL", database),
            ("SLOTRUSH_QUEUE_PREFIX", unique()),
            ("SLOTRUSH_PARTITIONS", PARTITIONS.to_string()),
            // One patient asks as often as the network loses an answer.
            ("SLOTRUSH_LIMIT_ACCOUNT_PER_SECOND", "100".to_owned()),
        ];
        let target = target(&shared)?;
        let keys = folder.join("keys");
        let admin_password = SecretString::from(unique());
        prepare_database(&shared, &keys, Some(&accounts), &admin_password).await?;
        let mut start = Start { shared, keys, accounts, folder, edges: Vec::new() };
        let (mut gateways, mut workers) = (Vec::new(), Vec::new());
        let (mut entrances, mut doors) = (Vec::new(), Vec::new());
        for number in 1..=PROGRAMS {
            let (gateway, entrance) = start.gateway(number).await?;
            gateways.push(gateway);
            let door = Client::new(&url_of(entrance.port())?, CONNECTIONS, REQUEST_TIMEOUT)?;
            doors.push(Arc::new(door));
            entrances.push(entrance);
        }
        for number in 1..=PROGRAMS {
            workers.push(start.worker(number).await?);
        }
        for program in gateways.iter_mut().chain(&mut workers) {
            program.ready().await?;
        }
        let minter = Arc::new(Minter::load(&start.keys.join(gateway::auth::keys::TOKEN_KEY))?);
        let edges = start.edges;
        Ok(Self {
            gateways,
            workers,
            edges,
            entrances,
            lookout,
            redis,
            rabbit,
            postgres,
            doors,
            minter,
            target,
            admin_password,
            lost_by_failover: LostByFailover::default(),
        })
    }

    /// Returns all proxies that faults may touch.
    pub(super) fn proxies(&self) -> Vec<&Proxy> {
        self.entrances.iter().chain(self.edges.iter().flat_map(Edges::all)).collect()
    }

    /// Leads the programs of these numbers (gateways first) to the present primary, for good.
    pub(super) fn redirect(&self, programs: impl IntoIterator<Item = usize>) {
        let url = self.redis.url();
        let proxies = programs.into_iter().filter_map(|number| self.edges.get(number));
        for proxy in proxies.map(|edges| &edges.redis).chain([&self.lookout]) {
            proxy.redirect(&url);
            // Connections that stand would stay with the old one.
            proxy.cut();
            proxy.heal();
        }
    }

    /// Returns a way to the queues.
    pub(super) fn queues(&self) -> broker::Settings {
        broker::Settings {
            url: self.target.amqp_url.clone(),
            prefix: self.target.queue_prefix.clone(),
            partitions: self.target.partitions,
            lanes: 1,
            confirm_timeout_ms: 5_000,
            waiting_max: 1_000,
            prefetch: 1,
            batch_bookings_max: 1,
            batch_wait_ms: 1,
        }
    }

    /// Names the programs that have ended though nobody ended them.
    pub(super) fn ended(&mut self) -> Vec<String> {
        let named = |(nth, program): (usize, &mut Program)| {
            let status = program.exit_status()?;
            Some(format!("{}-{} ended with {status}", program.name(), nth + 1))
        };
        let gateways = self.gateways.iter_mut().enumerate().filter_map(named);
        gateways.chain(self.workers.iter_mut().enumerate().filter_map(named)).collect()
    }
}

/// What is needed to start the programs.
struct Start<'a> {
    shared: Vec<(&'static str, String)>,
    keys: PathBuf,
    accounts: Accounts,
    folder: &'a Path,
    edges: Vec<Edges>,
}

impl Start<'_> {
    async fn gateway(&mut self, number: usize) -> Result<(Program, Proxy)> {
        let (port, admin_port) = (free_port(), free_port());
        let edges = edges(&self.accounts.gateway).await?;
        let mut settings = self.settings(edges);
        settings.extend(key_files(&self.keys));
        settings.push(("SLOTRUSH_LISTEN", address(port)));
        settings.push(("SLOTRUSH_ADMIN_LISTEN", address(admin_port)));
        // The crowd comes from addresses of its own, through a proxy.
        settings.push(("SLOTRUSH_TRUSTED_PROXIES", "127.0.0.0/8".to_owned()));
        let log = self.folder.join(format!("gateway-{number}.log"));
        let program = Program::start("gateway", settings, admin_port, log)?;
        program.arm(DISTORTIONS)?;
        Ok((program, Proxy::start(&address(port)).await?))
    }

    async fn worker(&mut self, number: usize) -> Result<Program> {
        let admin_port = free_port();
        let edges = edges(&self.accounts.worker).await?;
        let mut settings = self.settings(edges);
        settings.push(("SLOTRUSH_WORKER_ADMIN_LISTEN", address(admin_port)));
        // So that a broken invariant is found while it lasts.
        settings.push(("SLOTRUSH_AUDIT_INTERVAL_SECONDS", "1".to_owned()));
        settings.push(("SLOTRUSH_AUDIT_SHARE_PERCENT", "50".to_owned()));
        let log = self.folder.join(format!("booking-worker-{number}.log"));
        let program = Program::start("booking-worker", settings, admin_port, log)?;
        program.arm(DISTORTIONS)?;
        Ok(program)
    }

    /// The shared settings, with the servers at the end of these edges.
    fn settings(&mut self, edges: Edges) -> Vec<(&'static str, String)> {
        let mut settings = self.shared.clone();
        for (name, value) in &mut settings {
            match *name {
                "SLOTRUSH_REDIS_URL" => *value = edges.redis.url(),
                "SLOTRUSH_AMQP_URL" => *value = edges.rabbit.url(),
                "SLOTRUSH_DATABASE_URL" => *value = edges.postgres.url(),
                _ => {}
            }
        }
        self.edges.push(edges);
        settings
    }
}

/// Starts proxies of one program's own to the servers.
async fn edges(account: &Account) -> Result<Edges> {
    Ok(Edges {
        redis: Proxy::start(&account.redis).await?,
        rabbit: Proxy::start(&account.amqp).await?,
        postgres: Proxy::start(&account.database).await?,
    })
}

impl Cluster {
    /// Returns what an admin needs to put a release on offer.
    pub(super) fn preparation(
        &self,
        places: u32,
        sessions: u32,
        slots: u32,
    ) -> rush::settings::Preparation {
        let password = self.admin_password.expose_secret();
        rush::settings::Preparation {
            sessions,
            ..crate::admin::preparation(password, places, slots)
        }
    }
}
