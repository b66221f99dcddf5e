//! B1: a Redis of its own that does nothing but hold places, asked by `redis-benchmark`.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use booking::{Clock as _, Epoch, Nonce, Partition, ReleaseId, SessionId, SlotId, SystemClock};
use inventory::{Grant, Inventory, Prepared, Step, Window};
use testkit::{Redis, find_program, free_port};
use tokio::process::Command;

use super::output;

/// What a gateway sends for its places; here for one at a time.
const HOLD: &str = include_str!("../../../scripts/lua/hold.lua");
const EPOCH: Epoch = Epoch(1);
/// More than any round sells.
const PLACES: u32 = 1_000_000_000;
const HOUR_MS: i64 = 3_600_000;

/// That Redis.
#[derive(Debug)]
pub struct Bare {
    redis: Redis,
    partition: Partition,
    session: SessionId,
    sha: String,
}

impl Bare {
    /// Starts it with one slot on offer, as the reconciler would put it there.
    ///
    /// # Errors
    /// If it does not start or refuses.
    pub async fn start(folder: &Path) -> Result<Self> {
        let redis = Redis::start_in(folder, free_port(), &[]).await?;
        let inventory = Inventory::start(&inventory::Settings {
            url: redis.url().into(),
            connections: 1,
            response_timeout_ms: 2_000,
        })?;
        let (partition, session) = (Partition::new(0), SessionId::from(1));
        let nonce = Nonce::from_random(rand::random());
        let prepared = inventory.prepare(partition, &nonce, Epoch(0), false).await?;
        let Prepared::Shell(term) = prepared else { bail!("no shell: {prepared:?}") };
        let opened = inventory.open(partition, EPOCH, &term, &nonce).await?;
        let release = ReleaseId::from(1);
        let now = SystemClock.now();
        let window = Window {
            opens_at: now.plus_ms(-HOUR_MS),
            closes_at: now.plus_ms(24 * HOUR_MS),
            paused: false,
            version: 1,
        };
        inventory.set_window(partition, release, window).await?;
        let grant = Grant { slot: SlotId::of(session, 0), granted: PLACES, release };
        let applied = inventory.apply(partition, EPOCH, &nonce, session, &[grant], &[]).await?;
        ensure!(opened == Step::Done(()) && applied == Step::Done(()), "the ledger is not open");
        let mut load = cli("redis-cli", &redis)?;
        let sha = output(load.args(["script", "load", HOLD])).await?;
        Ok(Self { redis, partition, session, sha })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.redis.pid()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.redis.port()
    }

    /// B6: sets a key for each of so many slots, as counters are usually kept.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn set_keys(&self, slots: usize) -> Result<()> {
        self.each_key(slots, "'SET', 'slot:' .. i, 200").await
    }

    /// Takes them away again.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn drop_keys(&self, slots: usize) -> Result<()> {
        self.each_key(slots, "'DEL', 'slot:' .. i").await
    }

    async fn each_key(&self, slots: usize, command: &str) -> Result<()> {
        let script = format!("for i = 1, {slots} do redis.call({command}) end");
        output(cli("redis-cli", &self.redis)?.args(["eval", &script, "0"])).await.map(drop)
    }

    /// Holds `count` places over `connections`, one call at a time each; returns holds per second.
    ///
    /// # Errors
    /// If not every call held a place.
    pub async fn hold(&self, connections: u32, count: u32) -> Result<f64> {
        let held = self.held().await?;
        let now = SystemClock.now().0.to_string();
        let (partition, session) = (self.partition, self.session);
        let mut benchmark = cli("redis-benchmark", &self.redis)?;
        benchmark.args(["-c", &connections.to_string(), "-n", &count.to_string(), "--csv"]);
        // Patients and ids are drawn: hardly two calls have the same.
        benchmark.args(["-r", "2000000000", "evalsha", &self.sha, "5"]);
        for key in ["ledger", "out", "releases", &format!("s:{session}"), &format!("w:{session}")] {
            benchmark.arg(format!("{{p{partition}}}:{key}"));
        }
        let digest = "0123456789abcdef0123456789abcdef";
        let booking = format!(
            r#"{{"id":"__rand_int__","epoch":1,"slot":"256","patient":"__rand_int__","account":"1","key":"{digest}","request":"{digest}","accepted_at":{now}}}"#
        );
        let entry = format!("__rand_int__,{digest},{digest},1,1");
        benchmark.args(["1", "4", "0", "__rand_int__", "__rand_int__", &entry, &now, &booking]);
        let printed = output(&mut benchmark).await?;
        let line = printed.lines().last().context("redis-benchmark printed nothing")?;
        // The name of the test, which has commas of its own, then the rate and six latencies.
        let rate = line.rsplit(',').nth(6).map(|field| field.trim_matches('"'));
        let sold = self.held().await? - held;
        let missing = i64::from(count) - sold;
        ensure!(missing <= i64::from(count / 1_000), "{missing} of {count} calls held nothing");
        self.forget().await?;
        rate.and_then(|rate| rate.parse().ok()).with_context(|| format!("no rate in {line}"))
    }

    async fn held(&self) -> Result<i64> {
        let ledger = format!("{{p{}}}:ledger", self.partition);
        let held = output(cli("redis-cli", &self.redis)?.args(["hget", &ledger, "held"])).await?;
        Ok(held.parse().unwrap_or(0))
    }

    /// What was sold is dropped, as settled bookings are: every round finds it as the first one did.
    async fn forget(&self) -> Result<()> {
        let (partition, session) = (self.partition, self.session);
        let keys = [format!("{{p{partition}}}:out"), format!("{{p{partition}}}:w:{session}")];
        output(cli("redis-cli", &self.redis)?.arg("del").args(keys)).await.map(drop)
    }
}

fn cli(name: &str, redis: &Redis) -> Result<Command> {
    let program = find_program(name).with_context(|| format!("{name} is not installed"))?;
    let mut command = Command::new(program);
    command.args(["-p", &redis.port().to_string()]);
    Ok(command)
}
