//! A small clinic on real servers: one session, its slots on offer, patients with tokens, a gateway
//! over HTTP, and, where a test wants them, a worker that persists and tops up.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use booking::rules::Limits;
use booking::{
    AccountId, Clock, Epoch, Nonce, Partition, PartitionCount, PatientId, ReleaseId, SessionId,
    SlotId, SystemClock, UnixMs,
};
use clap::Parser;
use gateway::auth::{Role, Tokens};
use gateway::settings::Cli;
use inventory::{Inventory, Window};
use ledger::Ledger;
use ledger::catalogue::{
    DepartmentCreated, DoctorCreated, HospitalCreated, NewDoctor, NewSession, NewSlot, Period,
    Rank, SessionCreated,
};
use ledger::epoch::Opened;
use ledger::release::{NewRelease, ReleaseChanged, ReleaseCreated, ReleaseVerb};
use testkit::{Database, Proxy, Redis};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::answer::Answer;
use crate::worker::{Worker, top_up};

/// Where the release's window lies, from now.
#[derive(Clone, Copy)]
pub(crate) enum Release {
    Open,
    OpensIn(i64),
    Ended,
}

/// What a clinic is to be like.
pub(crate) struct Plan {
    pub(crate) capacities: Vec<u32>,
    /// Whether the doctor has a second session that day, behind the first and like it.
    pub(crate) has_afternoon: bool,
    /// Whether RabbitMQ and PostgreSQL are reached by the gateway over cuttable lines.
    pub(crate) has_proxies: bool,
    pub(crate) patients: u32,
    /// How long until the first slot begins; the others begin an hour after each other.
    pub(crate) starts_in_ms: i64,
    pub(crate) release: Release,
    pub(crate) limits: Limits,
    pub(crate) args: Vec<String>,
}

impl Plan {
    pub(crate) fn of(capacities: &[u32], patients: u32) -> Self {
        Self {
            capacities: capacities.to_vec(),
            has_afternoon: false,
            has_proxies: false,
            patients,
            starts_in_ms: 3 * DAY_MS,
            release: Release::Open,
            limits: Limits::default(),
            args: vec!["--limits=off".into()],
        }
    }
}

pub(crate) struct Clinic {
    pub(crate) redis: Redis,
    pub(crate) database: Database,
    _keys: tempfile::TempDir,
    /// To RabbitMQ and PostgreSQL.
    pub(crate) lines: Option<(Proxy, Proxy)>,
    pub(crate) ledger: Ledger,
    pub(crate) inventory: Inventory,
    pub(crate) broker: broker::Settings,
    pub(crate) address: SocketAddr,
    pub(crate) slots: Vec<SlotId>,
    pub(crate) patients: Vec<(AccountId, PatientId, String)>,
    pub(crate) partition: Partition,
    pub(crate) release: ReleaseId,
    pub(crate) version: u64,
    nonce: Nonce,
    pub(crate) cli: Vec<String>,
    pub(crate) stop: CancellationToken,
    helpers: CancellationToken,
    pub(crate) running: Option<JoinHandle<anyhow::Result<()>>>,
    http: reqwest::Client,
}

impl Drop for Clinic {
    fn drop(&mut self) {
        self.stop.cancel();
        self.helpers.cancel();
    }
}

const PARTITIONS: u8 = 2;
const DAY_MS: i64 = 86_400_000;

impl Clinic {
    /// Builds it and waits until the gateway is ready.
    pub(crate) async fn open(plan: Plan) -> anyhow::Result<Self> {
        let (redis, database) = (Redis::start().await?, Database::create().await?);
        let amqp = testkit::amqp_url().await?;
        let keys = tempfile::tempdir()?;
        gateway::auth::keys::generate(keys.path())?;
        let key_file = |name: &str| keys.path().join(name).display().to_string();
        let mut cli = vec![
            "gateway".to_owned(),
            format!("--redis-url={}", redis.url()),
            format!("--amqp-url={amqp}"),
            format!("--database-url={}", database.url()),
            format!("--queue-prefix={}", testkit::unique()),
            format!("--partitions={PARTITIONS}"),
            format!("--token-key-file={}", key_file("token-key.pem")),
            format!("--data-key-file={}", key_file("data-key")),
            "--epoch-check-timeout-ms=1000".to_owned(), // a busy machine misses the usual 50
        ];
        cli.extend(plan.args.clone());
        let settings = Cli::try_parse_from(&cli)?.settings;
        let addresses = settings.stores.addresses()?;
        let partitions = PartitionCount::new(PARTITIONS).context("two is allowed")?;
        let ledger = Ledger::start(&settings.ledger(&addresses))?;
        ledger.migrate().await?;
        let (gateway, worker) = (database.role("gateway").await?, database.role("worker").await?);
        ledger.grant(&gateway.0.parse()?, &worker.0.parse()?).await?;
        ledger.check_partitions(partitions).await?;
        // The gateway is not the owner of the tables.
        cli[3] = format!("--database-url={}", gateway.1);
        let lines = if plan.has_proxies {
            let (rabbit, postgres) = (Proxy::start(&amqp).await?, Proxy::start(&gateway.1).await?);
            cli[2] = format!("--amqp-url={}", rabbit.url());
            cli[3] = format!("--database-url={}", postgres.url());
            Some((rabbit, postgres))
        } else {
            None
        };
        let inventory = Inventory::start(&settings.inventory(&addresses))?;
        testkit::eventually("Redis", Duration::from_secs(5), async || {
            inventory.is_up().then_some(())
        })
        .await?;
        let mut broker = settings.broker(&addresses, partitions);
        (broker.prefetch, broker.batch_bookings_max, broker.batch_wait_ms) = (16, 200, 5);

        let tokens = Tokens::load(&settings.auth)?;
        let now = SystemClock.now();
        let mut patients = Vec::new();
        for (account, patient) in ledger.create_crowd(plan.patients.max(1)).await? {
            let token = tokens.issue(account, Role::Patient, &[patient], now)?;
            patients.push((account, patient, token));
        }
        let actor = patients[0].0;
        let (release, slots) = offer(&ledger, actor, partitions, &plan).await?;
        let mut clinic = Self {
            partition: partitions.of_slot(slots[0]),
            nonce: Nonce::from_random(7),
            version: 1,
            address: ([127, 0, 0, 1], 0).into(),
            stop: CancellationToken::new(),
            helpers: CancellationToken::new(),
            running: None,
            http: reqwest::Client::new(),
            database,
            _keys: keys,
            lines,
            cli,
            redis,
            ledger,
            inventory,
            broker,
            slots,
            patients,
            release,
        };
        for number in 0..PARTITIONS {
            clinic.open_epoch(Partition::new(number)).await?;
        }
        clinic.set_window(plan.release, false).await?;
        clinic.top_up().await?;
        clinic.start_gateway().await?;
        Ok(clinic)
    }

    /// Starts a gateway on the same servers, on a new port, and waits until it takes bookings.
    pub(crate) async fn start_gateway(&mut self) -> anyhow::Result<()> {
        let settings = Cli::try_parse_from(&self.cli)?.settings;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let admin = TcpListener::bind("127.0.0.1:0").await?;
        let ready = format!("http://{}/readyz", admin.local_addr()?);
        self.address = listener.local_addr()?;
        self.stop = CancellationToken::new();
        let run = gateway::run(settings, listener, admin, self.stop.clone());
        self.running = Some(tokio::spawn(run));
        testkit::eventually("a ready gateway", Duration::from_secs(20), async || {
            let answer = self.http.get(&ready).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await
    }

    /// Starts a gateway and has everybody ask from the moment its port is open; returns how many
    /// were answered what.
    pub(crate) async fn start_in_a_rush(
        &mut self,
        key: &str,
    ) -> anyhow::Result<BTreeMap<String, u32>> {
        let settings = Cli::try_parse_from(&self.cli)?.settings;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let admin = TcpListener::bind("127.0.0.1:0").await?;
        self.address = listener.local_addr()?;
        self.stop = CancellationToken::new();
        let run = gateway::run(settings, listener, admin, self.stop.clone());
        self.running = Some(tokio::spawn(run));
        let asked = (0..self.patients.len()).map(|n| self.book(n, self.slots[0], key));
        let mut codes = BTreeMap::new();
        for answer in futures::future::join_all(asked).await {
            *codes.entry(answer?.code().1.to_owned()).or_default() += 1;
        }
        Ok(codes)
    }

    /// Stops the gateway gracefully and returns how it ended.
    pub(crate) async fn stop_gateway(&mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.running.take().context("a gateway runs")?.await?
    }

    async fn open_epoch(&self, partition: Partition) -> anyhow::Result<()> {
        let prepared = self.inventory.prepare(partition, &self.nonce, Epoch::NONE, false).await?;
        let inventory::Prepared::Shell(term) = prepared else { bail!("no shell: {prepared:?}") };
        let opened = self.ledger.open_epoch(partition, Epoch::NONE, &term, &self.nonce).await?;
        let Opened::Epoch(epoch) = opened else { bail!("no epoch: {opened:?}") };
        self.inventory.open(partition, epoch, &term, &self.nonce).await?;
        Ok(())
    }

    /// Tells Redis the release's window.
    pub(crate) async fn set_window(
        &mut self,
        release: Release,
        paused: bool,
    ) -> anyhow::Result<()> {
        let now = SystemClock.now();
        let (opens_at, closes_at) = match release {
            Release::Open => (now.plus_ms(-1_000), now.plus_ms(DAY_MS)),
            Release::OpensIn(ms) => (now.plus_ms(ms), now.plus_ms(DAY_MS)),
            Release::Ended => (now.plus_ms(-DAY_MS), now.plus_ms(-1_000)),
        };
        self.version += 1;
        let window = Window { opens_at, closes_at, paused, version: self.version };
        for number in 0..PARTITIONS {
            let partition = Partition::new(number);
            self.inventory.set_window(partition, self.release, window).await?;
        }
        Ok(())
    }

    /// R4 and R5: grants what is free.
    pub(crate) async fn top_up(&self) -> anyhow::Result<()> {
        top_up(&self.ledger, &self.inventory, &self.nonce).await
    }

    /// Starts a worker; with `tops_up`, free places are granted again.
    pub(crate) fn start_worker(&self, tops_up: bool) {
        let (ledger, inventory) = (self.ledger.clone(), self.inventory.clone());
        for number in 0..PARTITIONS {
            let worker = Worker { ledger: ledger.clone(), inventory: inventory.clone() };
            let (broker, stop) = (self.broker.clone(), self.helpers.clone());
            let partition = Partition::new(number);
            tokio::spawn(async move { broker::consume(&broker, partition, worker, stop).await });
        }
        if tops_up {
            let (nonce, stop) = (self.nonce.clone(), self.helpers.clone());
            tokio::spawn(async move {
                while !stop.is_cancelled() {
                    let _ = top_up(&ledger, &inventory, &nonce).await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        }
    }

    /// Sends a booking request of patient number `n`.
    pub(crate) async fn book(&self, n: usize, slot: SlotId, key: &str) -> anyhow::Result<Answer> {
        self.book_at(self.address, n, slot, key).await
    }

    /// Does so at a gateway that may be another one.
    pub(crate) async fn book_at(
        &self,
        gateway: SocketAddr,
        n: usize,
        slot: SlotId,
        key: &str,
    ) -> anyhow::Result<Answer> {
        let (_, patient, token) = &self.patients[n];
        let body = serde_json::json!({"slot_id": slot, "patient_id": patient});
        self.post_at(gateway, token, &[("idempotency-key", key)], &body.to_string()).await
    }

    /// Sends any body to `POST /v1/bookings`.
    pub(crate) async fn post(
        &self,
        token: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> anyhow::Result<Answer> {
        self.post_at(self.address, token, headers, body).await
    }

    async fn post_at(
        &self,
        gateway: SocketAddr,
        token: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> anyhow::Result<Answer> {
        let mut request = self
            .http
            .post(format!("http://{gateway}/v1/bookings"))
            .bearer_auth(token)
            .header("content-type", "application/json")
            .body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(Answer::read(request.send().await?).await?.documented())
    }

    /// Asks `path` as patient number `n`.
    pub(crate) async fn get(&self, n: usize, path: &str) -> anyhow::Result<Answer> {
        let url = format!("http://{}{path}", self.address);
        let token = &self.patients[n].2;
        Answer::read(self.http.get(url).bearer_auth(token).send().await?).await
    }

    /// Cancels a booking as patient number `n`.
    pub(crate) async fn cancel(&self, n: usize, id: &str) -> anyhow::Result<Answer> {
        let url = format!("http://{}/v1/bookings/{id}/cancel", self.address);
        let token = &self.patients[n].2;
        Answer::read(self.http.post(url).bearer_auth(token).send().await?).await
    }
}

async fn offer(
    ledger: &Ledger,
    actor: AccountId,
    partitions: PartitionCount,
    plan: &Plan,
) -> anyhow::Result<(ReleaseId, Vec<SlotId>)> {
    let zone = "Asia/Shanghai".to_owned();
    let hospital = ledger.create_hospital(actor, "First".into(), zone, plan.limits).await?;
    let HospitalCreated::Done(hospital) = hospital else { bail!("{hospital:?}") };
    let department = ledger.create_department(actor, hospital, "Eyes".into()).await?;
    let DepartmentCreated::Done(department) = department else { bail!("{department:?}") };
    let new = NewDoctor { department, name: "Li".into(), rank: Rank::Chief, fee_fen: 5_000 };
    let doctor = ledger.create_doctor(actor, new).await?;
    let DoctorCreated::Done(doctor) = doctor else { bail!("{doctor:?}") };
    let starts = SystemClock.now().plus_ms(plan.starts_in_ms);
    let times = |first: i64| {
        let band = |(n, capacity): (i64, &u32)| {
            let starts_at = starts.plus_ms(n * 3_600_000);
            NewSlot { starts_at, ends_at: starts_at.plus_ms(3_600_000), capacity: *capacity }
        };
        (first..).zip(&plan.capacities).map(band).collect::<Vec<_>>()
    };
    let on_date = jiff::Timestamp::from_millisecond(starts.0)?.to_zoned(jiff::tz::TimeZone::UTC);
    let mut slots = Vec::new();
    let periods = [(Period::Morning, 0), (Period::Afternoon, i64::try_from(times(0).len())?)];
    for (period, first) in periods.into_iter().take(1 + usize::from(plan.has_afternoon)) {
        let new = NewSession { doctor, on_date: on_date.date(), period, slots: times(first) };
        let session = ledger.create_session(actor, partitions, new).await?;
        let SessionCreated::Done(session) = session else { bail!("{session:?}") };
        slots.extend(slots_of(session, plan.capacities.len())?);
    }
    let now = SystemClock.now();
    let new = NewRelease {
        hospital,
        name: "Monday".into(),
        opens_at: now,
        closes_at: UnixMs(now.0 + DAY_MS),
        slots: slots.clone(),
    };
    let release = ledger.create_release(actor, new).await?;
    let ReleaseCreated::Done(release) = release else { bail!("{release:?}") };
    let preheated = ledger.change_release(actor, release, ReleaseVerb::Preheat).await?;
    anyhow::ensure!(preheated == ReleaseChanged::Done, "{preheated:?}");
    Ok((release, slots))
}

fn slots_of(session: SessionId, count: usize) -> anyhow::Result<Vec<SlotId>> {
    (0..count).map(|n| Ok(SlotId::of(session, u8::try_from(n)?))).collect()
}
