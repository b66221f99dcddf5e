//! A hospital with one release, on servers of its own, and the worker's parts to act on it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use booking::message::Message;
use booking::rules::Limits;
use booking::snowflake::{Mint, Minted, WorkerId};
use booking::{
    AccountId, Booking, BookingId, Clock, Digest, DoctorId, Envelope, Epoch, HospitalId, Partition,
    PartitionCount, PatientId, ReleaseId, SlotId, State, SystemClock, UnixMs,
};
use booking_worker::Servers;
use booking_worker::audit::audit;
use booking_worker::consume::Consumer;
use booking_worker::reconcile::{PartitionReconciler, Round};
use broker::Publisher;
use inventory::{Hold, Inventory};
use ledger::Ledger;
use ledger::account::{NewAccount, Registered, Role};
use ledger::booking_row::{BookingRow, Cancelled};
use ledger::catalogue::{
    DepartmentCreated, DoctorCreated, HospitalCreated, NewDoctor, NewSession, NewSlot, Period,
    Rank, SessionCreated,
};
use ledger::epoch::{EpochRow, EpochState};
use ledger::release::{NewRelease, ReleaseCounts, ReleaseCreated, ReleaseVerb};
use secrecy::SecretString;
use testkit::{Database, Postgres, Redis, eventually, unique};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const SOON: Duration = Duration::from_secs(20);
pub(crate) const ONE: Partition = Partition::new(0);
const HOUR_MS: i64 = 3_600_000;

/// What a test acts on. Fields end in this order.
pub(crate) struct World {
    _stop: DropGuard,
    pub(crate) stop: CancellationToken,
    pub(crate) servers: Servers,
    pub(crate) slots: Vec<SlotId>,
    pub(crate) admin: AccountId,
    pub(crate) release: ReleaseId,
    pub(crate) crowd: Vec<(AccountId, PatientId)>,
    pub(crate) amqp_url: String,
    mint: Mint,
    pub(crate) redis: Redis,
    pub(crate) database: Database,
}

impl World {
    /// One partition, one session, slots of these capacities, on sale; 20 patients.
    pub(crate) async fn start(capacities: &[u32]) -> Result<Self> {
        let database = Database::create().await?;
        let url = database.url();
        Self::start_on(database, &url, capacities).await
    }

    /// The same with its database on a PostgreSQL of its own.
    pub(crate) async fn start_on_own(postgres: &Postgres, capacities: &[u32]) -> Result<Self> {
        let database = Database::create_on(&postgres.url()).await?;
        let url = database.url();
        Self::start_on(database, &url, capacities).await
    }

    /// The same on this database, reached as `url`, which may be a proxy's.
    pub(crate) async fn start_on(
        database: Database,
        url: &str,
        capacities: &[u32],
    ) -> Result<Self> {
        let (redis, amqp_url) = (Redis::start().await?, testkit::amqp_url().await?);
        let stop = CancellationToken::new();
        let servers = connect(&redis, url, &amqp_url, &stop)?;
        let ledger = &servers.ledger;
        ledger.migrate().await?;
        ledger.check_partitions(servers.partitions()).await?;
        let (admin, hospital, slots) = build(ledger, servers.partitions(), capacities).await?;
        let now = SystemClock.now();
        let release = NewRelease {
            hospital,
            name: "morning".into(),
            opens_at: now.plus_ms(-HOUR_MS),
            closes_at: now.plus_ms(HOUR_MS),
            slots: slots.clone(),
        };
        let ReleaseCreated::Done(release) = ledger.create_release(admin, release).await? else {
            bail!("no release");
        };
        ledger.change_release(admin, release, ReleaseVerb::Preheat).await?;
        let crowd = ledger.create_crowd(20).await?;
        let until = now.plus_ms(HOUR_MS);
        let mint = Mint::new(WorkerId::new(1), UnixMs(0), until, Arc::new(SystemClock));
        let inventory = &servers.inventory;
        eventually("Redis", SOON, || async { inventory.ping().await.ok() }).await?;
        tokio::time::timeout(SOON, servers.publisher.wait_up()).await?;
        let guard = stop.clone().drop_guard();
        Ok(Self {
            _stop: guard,
            stop,
            servers,
            slots,
            admin,
            release,
            crowd,
            amqp_url,
            mint,
            redis,
            database,
        })
    }

    /// What a director would say now.
    pub(crate) async fn round(&self) -> Result<Round> {
        let ledger = &self.servers.ledger;
        Ok(Round { epochs: ledger.epochs().await?, windows: ledger.windows().await? })
    }

    pub(crate) fn reconciler(&self) -> PartitionReconciler {
        PartitionReconciler::new(&self.servers, ONE)
    }

    /// One round of a reconciler that remembers nothing.
    pub(crate) async fn reconcile(&self) -> Result<()> {
        Ok(self.reconciler().tick(&self.round().await?).await?)
    }

    /// Reconciles until no old epoch is left. Barriers are due every two seconds.
    pub(crate) async fn settle_epochs(&self, reconciler: &mut PartitionReconciler) -> Result<()> {
        self.tick_until(reconciler, "no sealed epoch", async || {
            Ok(self.epochs(EpochState::Sealed).await?.is_empty().then_some(()))
        })
        .await
    }

    /// Takes round after round until `probe` gives a value. A round may fail, as in life.
    pub(crate) async fn tick_until<T>(
        &self,
        reconciler: &mut PartitionReconciler,
        what: &str,
        probe: impl AsyncFn() -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            let ticked = reconciler.tick(&self.round().await?).await;
            if let Some(value) = probe().await? {
                return Ok(value);
            }
            ensure!(tokio::time::Instant::now() < deadline, "{what}: last round {ticked:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn epochs(&self, state: EpochState) -> Result<Vec<EpochRow>> {
        let epochs = self.servers.ledger.epochs().await?;
        Ok(epochs.into_iter().filter(|row| row.state == state).collect())
    }

    pub(crate) async fn open_epoch(&self) -> Result<EpochRow> {
        self.epochs(EpochState::Open).await?.pop().context("no open epoch")
    }

    /// Consumes the partition's queue until the world ends.
    pub(crate) fn consume(&self) {
        let (broker, stop) = (self.servers.broker.clone(), self.stop.clone());
        let consumer = Consumer::of_partition(&self.servers);
        tokio::spawn(async move { broker::consume(&broker, ONE, consumer, stop).await });
    }

    /// A booking of patient number `patient`, as a gateway would mint it.
    pub(crate) fn booking(&self, patient: usize, slot: SlotId, epoch: Epoch) -> Result<Booking> {
        let Minted::Id(id) = self.mint.mint(ONE) else { bail!("no id") };
        let (account, patient) = self.crowd[patient];
        Ok(Booking {
            id,
            epoch,
            slot,
            patient,
            account,
            key: Digest::of_key(&id.to_string()),
            request: Digest::of_request(slot, patient),
            accepted_at: SystemClock.now(),
        })
    }

    /// G1 for patient number `patient`.
    pub(crate) async fn hold(&self, patient: usize, slot: SlotId) -> Result<(Booking, Hold)> {
        let booking = self.booking(patient, slot, self.open_epoch().await?.epoch)?;
        let hold = self.servers.inventory.hold(ONE, &booking, SystemClock.now()).await?;
        Ok((booking, hold))
    }

    /// G1 that must win.
    pub(crate) async fn win(&self, patient: usize, slot: SlotId) -> Result<Booking> {
        let (booking, hold) = self.hold(patient, slot).await?;
        ensure!(matches!(hold, Hold::Held { .. }), "not held: {hold:?}");
        Ok(booking)
    }

    /// G2.
    pub(crate) async fn publish(&self, bookings: Vec<Booking>) -> Result<()> {
        let message = Message::Envelope(Envelope::new(bookings));
        Ok(self.servers.publisher.send(ONE, &message).await?)
    }

    pub(crate) async fn row(&self, id: BookingId) -> Result<Option<BookingRow>> {
        Ok(self.servers.ledger.find_bookings(&[id]).await?.pop())
    }

    pub(crate) async fn eventually_row(&self, id: BookingId) -> Result<BookingRow> {
        eventually("the row", SOON, || async { self.row(id).await.ok().flatten() }).await
    }

    pub(crate) async fn eventually_empty_outbox(&self) -> Result<()> {
        eventually("an empty outbox", SOON, || async {
            let seen = self.servers.inventory.inspect(ONE).await.ok()?;
            (seen.outbox_len == 0).then_some(())
        })
        .await
    }

    /// Books for patient number `patient`, all the way.
    pub(crate) async fn book(&self, patient: usize, slot: SlotId) -> Result<Booking> {
        let booking = self.win(patient, slot).await?;
        self.publish(vec![booking.clone()]).await?;
        let row = self.eventually_row(booking.id).await?;
        ensure!(row.state == State::Booked, "not booked: {row:?}");
        Ok(booking)
    }

    pub(crate) async fn cancel(&self, booking: &Booking) -> Result<()> {
        let cancelled = self.servers.ledger.cancel(booking.id, booking.account).await?;
        ensure!(matches!(cancelled, Cancelled::Done(_)), "not cancelled: {cancelled:?}");
        Ok(())
    }

    pub(crate) async fn counts(&self) -> Result<ReleaseCounts> {
        let release = self.servers.ledger.release(self.release).await?;
        Ok(release.context("the release")?.counts)
    }

    /// What Redis can still sell.
    pub(crate) async fn left(&self) -> Result<u64> {
        let session = self.slots[0].session();
        let counts = self.servers.inventory.snapshot(ONE, &[session]).await?;
        Ok(counts.iter().map(|count| u64::from(count.left)).sum())
    }

    /// Every invariant holds, and no place is lost: capacity = booked + left + free, once all is
    /// persisted and closed.
    pub(crate) async fn assert_conserved(&self) -> Result<()> {
        let violations = audit(&self.servers).await?;
        ensure!(violations.is_empty(), "{violations:?}");
        let (counts, left) = (self.counts().await?, self.left().await?);
        ensure!(counts.capacity == counts.booked + left + counts.free, "{counts:?}, left {left}");
        ensure!(counts.escrowed == left, "{counts:?}, left {left}");
        Ok(())
    }

    /// The same database, not through a proxy.
    pub(crate) fn ledger_aside(&self) -> Result<Ledger> {
        Ok(Ledger::start(&ledger_settings(&self.database.url()))?)
    }

    /// Sends Redis one command and returns the first line of its answer.
    pub(crate) async fn redis_command(&self, command: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.redis.port())).await?;
        stream.write_all(format!("{command}\r\n").as_bytes()).await?;
        let mut answer = vec![0; 4096];
        let read = stream.read(&mut answer).await?;
        let text = String::from_utf8_lossy(&answer[..read]);
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }
}

fn connect(
    redis: &Redis,
    database_url: &str,
    amqp_url: &str,
    stop: &CancellationToken,
) -> Result<Servers> {
    let broker = broker::Settings {
        url: SecretString::from(amqp_url),
        prefix: unique(),
        partitions: PartitionCount::new(1).context("one partition")?,
        lanes: 1,
        confirm_timeout_ms: 5000,
        waiting_max: 1000,
        prefetch: 100,
        batch_bookings_max: 200,
        batch_wait_ms: 5,
    };
    Ok(Servers {
        ledger: Ledger::start(&ledger_settings(database_url))?,
        inventory: connect_redis(&redis.url())?,
        publisher: Publisher::start(&broker, None, stop.clone()),
        broker,
        fronts: Arc::default(),
        clock: Arc::new(SystemClock),
    })
}

/// Redis at this URL, which may be a proxy's.
pub(crate) fn connect_redis(url: &str) -> Result<Inventory> {
    let settings = inventory::Settings {
        url: SecretString::from(url),
        connections: 1,
        response_timeout_ms: 2000,
    };
    Ok(Inventory::start(&settings)?)
}

fn ledger_settings(url: &str) -> ledger::Settings {
    ledger::Settings {
        url: SecretString::from(url),
        connections_max: 8,
        acquire_timeout_ms: 1000,
        statement_timeout_ms: 10_000,
        application_name: "booking-worker test",
    }
}

async fn build(
    ledger: &Ledger,
    partitions: PartitionCount,
    capacities: &[u32],
) -> Result<(AccountId, HospitalId, Vec<SlotId>)> {
    let account = NewAccount {
        login_hash: vec![1],
        login_sealed: vec![1],
        password_hash: "$argon2id$".into(),
        role: Role::Admin,
    };
    let Registered::Done(admin) = ledger.create_account(None, account).await? else {
        bail!("no admin");
    };
    let (name, zone) = ("Hospital".into(), "Asia/Shanghai".into());
    let hospital = ledger.create_hospital(admin, name, zone, Limits::default()).await?;
    let HospitalCreated::Done(hospital) = hospital else { bail!("no hospital") };
    let department = ledger.create_department(admin, hospital, "Cardiology".into()).await?;
    let DepartmentCreated::Done(department) = department else { bail!("no department") };
    let doctor = NewDoctor { department, name: "Doctor".into(), rank: Rank::Chief, fee_fen: 1000 };
    let DoctorCreated::Done(doctor) = ledger.create_doctor(admin, doctor).await? else {
        bail!("no doctor");
    };
    let session = ledger.create_session(admin, partitions, session(doctor, capacities)?).await?;
    let SessionCreated::Done(session) = session else { bail!("no session: {session:?}") };
    let slots = (0..capacities.len()).map(|at| Ok(SlotId::of(session, u8::try_from(at)?)));
    Ok((admin, hospital, slots.collect::<Result<_>>()?))
}

fn session(doctor: DoctorId, capacities: &[u32]) -> Result<NewSession> {
    let tomorrow = jiff::Zoned::now().date().tomorrow()?;
    let mut at = SystemClock.now().plus_ms(24 * HOUR_MS);
    let slot = |capacity: &u32| {
        let starts_at = at;
        at = at.plus_ms(HOUR_MS);
        NewSlot { starts_at, ends_at: at, capacity: *capacity }
    };
    let slots = capacities.iter().map(slot).collect();
    Ok(NewSession { doctor, on_date: tomorrow, period: Period::Morning, slots })
}
