//! One Redis with one partition's ledger, and short words for what tests do to it.

use std::time::Duration;

use booking::{
    AccountId, Booking, BookingId, Digest, Epoch, Nonce, Partition, PatientId, ReleaseId,
    SessionId, SlotId, Term, UnixMs,
};
use redis::aio::MultiplexedConnection;
use testkit::{Redis, eventually};

use crate::{Error, Grant, Hold, Inventory, Prepared, Settings, SlotCount, Step, Window, keys};

pub(super) const P: Partition = Partition::new(7);
pub(super) const E1: Epoch = Epoch(1);
pub(super) const E2: Epoch = Epoch(2);
pub(super) const NOW: UnixMs = UnixMs(1_800_000_000_000);
pub(super) const WINDOW: Window = Window {
    opens_at: UnixMs(NOW.0 - 1_000),
    closes_at: UnixMs(NOW.0 + 1_000),
    paused: false,
    version: 1,
};

pub(super) fn session() -> SessionId {
    SessionId::from(77)
}

pub(super) fn slot(ordinal: u8) -> SlotId {
    SlotId::of(session(), ordinal)
}

pub(super) fn release() -> ReleaseId {
    ReleaseId::from(i64::MAX)
}

pub(super) fn nonce(word: &str) -> Nonce {
    Nonce(word.to_owned())
}

/// Names booking `number` of partition 7.
pub(super) fn id(number: i64) -> BookingId {
    BookingId::from((1 << 40) | (7 << 16) | number)
}

/// The wish of patient `patient` for slot 0, as booking `number`, under epoch 1 and a key of its own.
pub(super) fn booking(number: i64, patient: i64) -> Booking {
    let patient = PatientId::from(patient);
    Booking {
        id: id(number),
        epoch: E1,
        slot: slot(0),
        patient,
        account: AccountId::from(3),
        key: Digest::of_key(&number.to_string()),
        request: Digest::of_request(slot(0), patient),
        accepted_at: NOW,
    }
}

/// The same wish sent again: a new booking id, the same key.
pub(super) fn again(first: &Booking, number: i64) -> Booking {
    Booking { id: id(number), ..first.clone() }
}

pub(super) fn grant(ordinal: u8, granted: u32) -> Grant {
    Grant { slot: slot(ordinal), granted, release: release() }
}

/// The accounts of the programs, in the form of Redis's settings: all tests run with their rights.
pub(super) fn accounts() -> [String; 2] {
    let gateway = include_str!("../../../deploy/redis/gateway.rights");
    let worker = include_str!("../../../deploy/redis/worker.rights");
    [(GATEWAY, gateway), (WORKER, worker)]
        .map(|(user, rights)| format!("user {user} on >{PASSWORD} {}", rights.trim_end()))
}

pub(super) const GATEWAY: &str = "gateway";
pub(super) const WORKER: &str = "worker";
const PASSWORD: &str = "secret";

pub(super) fn settings(redis: &Redis, user: &str) -> Settings {
    let url = redis.url().replace("redis://", &format!("redis://{user}:{PASSWORD}@"));
    Settings { url: url.into(), connections: 2, response_timeout_ms: 10_000 }
}

pub(super) struct World {
    pub(super) redis: Redis,
    /// With a gateway's rights: for what only gateways do.
    pub(super) gateway: Inventory,
    /// With a worker's rights: for everything else.
    pub(super) inventory: Inventory,
    pub(super) raw: MultiplexedConnection,
}

impl World {
    /// An empty Redis, and the inventory on it, up.
    pub(super) async fn empty() -> Self {
        let accounts = accounts();
        let accounts = accounts.each_ref().map(String::as_str);
        Self::on(Redis::start_with(&accounts).await.expect("Redis starts")).await
    }

    pub(super) async fn on(redis: Redis) -> Self {
        let [gateway, inventory] = [GATEWAY, WORKER].map(|user| {
            Inventory::start(&settings(&redis, user)).expect("the address is well-formed")
        });
        let raw = connect(&redis).await;
        let world = Self { redis, gateway, inventory, raw };
        world.wait_until_up().await;
        world
    }

    /// Epoch 1 open under nonce `one`, slot 0 with three places, its release open.
    pub(super) async fn open() -> Self {
        let mut world = Self::empty().await;
        world.open_first(3).await;
        world
    }

    pub(super) async fn open_first(&mut self, granted: u32) {
        let term = self.prepare("one", Epoch::NONE, false).await.expect("a shell is needed");
        assert_eq!(self.open_as(E1, &term, "one").await, Step::Done(()));
        assert_eq!(self.apply(E1, "one", &[grant(0, granted)]).await, Step::Done(()));
        self.inventory.set_window(P, release(), WINDOW).await.expect("answers");
    }

    pub(super) async fn wait_until_up(&self) {
        wait_until(&self.gateway, true).await;
        wait_until(&self.inventory, true).await;
    }

    pub(super) async fn wait_until_down(&self) {
        wait_until(&self.gateway, false).await;
        wait_until(&self.inventory, false).await;
    }

    /// Prepares a shell; `None` if not needed.
    pub(super) async fn prepare(&self, word: &str, current: Epoch, sealed: bool) -> Option<Term> {
        match self.inventory.prepare(P, &nonce(word), current, sealed).await.expect("answers") {
            Prepared::Shell(term) => Some(term),
            Prepared::NotNeeded => None,
        }
    }

    pub(super) async fn open_as(&self, epoch: Epoch, term: &Term, word: &str) -> Step {
        self.inventory.open(P, epoch, term, &nonce(word)).await.expect("answers")
    }

    pub(super) async fn apply(&self, epoch: Epoch, word: &str, grants: &[Grant]) -> Step {
        self.apply_with(epoch, word, grants, &[]).await
    }

    pub(super) async fn apply_with(
        &self,
        epoch: Epoch,
        word: &str,
        grants: &[Grant],
        live: &[Booking],
    ) -> Step {
        let nonce = nonce(word);
        self.inventory.apply(P, epoch, &nonce, session(), grants, live).await.expect("answers")
    }

    pub(super) async fn freeze(&self, epoch: Epoch, word: &str) -> Step<Vec<SlotCount>> {
        self.inventory.freeze(P, epoch, &nonce(word), &[session()]).await.expect("answers")
    }

    pub(super) async fn hold(&self, booking: &Booking) -> Hold {
        self.try_hold(booking).await.expect("answers")
    }

    pub(super) async fn try_hold(&self, booking: &Booking) -> Result<Hold, Error> {
        self.gateway.hold(P, booking, NOW).await
    }

    pub(super) async fn settle(&self, booking: &Booking, live: bool) {
        self.inventory.settle(P, &[(booking.clone(), live)]).await.expect("answers");
    }

    /// What the ledger has of slot 0: left, granted, sold.
    pub(super) async fn counters(&self) -> Option<(u32, u32, u32)> {
        let counts = self.inventory.snapshot(P, &[session()]).await.expect("answers");
        counts.iter().find(|c| c.slot == slot(0)).map(|c| (c.left, c.granted, c.sold))
    }

    /// Writes a field of the ledger behind everyone's back.
    pub(super) async fn tamper(&mut self, field: &str, value: &str) {
        let mut command = redis::cmd("HSET");
        command.arg(keys::ledger(P)).arg(field).arg(value);
        command.exec_async(&mut self.raw).await.expect("Redis takes it");
    }

    /// Kills Redis with its data written: while a sync of the append-only file is under way, even
    /// `everysec` keeps acknowledged writes in memory, and a kill loses them.
    pub(super) async fn kill(&mut self) {
        let raw = &self.raw;
        eventually("the append-only file is written", Duration::from_secs(10), || {
            let mut raw = raw.clone();
            async move {
                let info: String = command("INFO persistence").query_async(&mut raw).await.ok()?;
                info.contains("aof_buffer_length:0\r").then_some(())
            }
        })
        .await
        .expect("is written in time");
        self.redis.kill().await.expect("dies");
    }

    pub(super) async fn run(&mut self, words: &str) {
        command(words).exec_async(&mut self.raw).await.expect("Redis takes it");
    }
}

/// Waits until all of an inventory's connections are down, or any of them is up.
pub(super) async fn wait_until(inventory: &Inventory, is_up: bool) {
    eventually("Redis is up or down", Duration::from_secs(10), || async {
        (inventory.is_up() == is_up).then_some(())
    })
    .await
    .expect("is noticed in time");
}

pub(super) fn command(words: &str) -> redis::Cmd {
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next().unwrap_or_default());
    words.for_each(|word| {
        command.arg(word);
    });
    command
}

pub(super) async fn connect(redis: &Redis) -> MultiplexedConnection {
    let client = redis::Client::open(redis.url()).expect("the address is well-formed");
    let config =
        redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(30)));
    let connected = client.get_multiplexed_async_connection_with_config(&config).await;
    connected.expect("Redis answers")
}

/// Tells whether a hold got a place.
pub(super) fn is_held(hold: &Hold) -> bool {
    matches!(hold, Hold::Held { .. })
}
