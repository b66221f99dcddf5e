//! A database with one hospital, its doctors, sessions and a release; and what is in it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use booking::{
    AccountId, Booking, BookingId, Digest, Epoch, Nonce, Partition, PatientId, Reason, SessionId,
    SlotId, State, Term, UnixMs,
};
use ledger::epoch::Opened;
use ledger::persist::Outcome;
use ledger::{Ledger, Settings};
use sqlx::postgres::{PgPool, PgPoolOptions};

/// The partition all is in, unless said otherwise.
pub(crate) const P0: Partition = Partition::new(0);
/// Another one.
pub(crate) const P1: Partition = Partition::new(1);
/// How long anything may take to happen.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A ledger, and a way around it.
pub(crate) struct World {
    pub(crate) ledger: Ledger,
    pub(crate) sql: PgPool,
    /// Lives as long as the world; dropped last.
    database: testkit::Database,
}

/// A slot's counters.
#[derive(Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Places {
    pub(crate) booked: i32,
    pub(crate) escrowed: i32,
    pub(crate) issued: i32,
}

/// Shorthand for expected counters.
pub(crate) fn places(booked: i32, escrowed: i32, issued: i32) -> Places {
    Places { booked, escrowed, issued }
}

impl World {
    /// Makes the database with 100 patients, one account, a hospital without limits and a
    /// planned release that is due.
    pub(crate) async fn new() -> Result<Self> {
        let database = testkit::Database::create().await?;
        let url = database.url();
        let ledger = started(&url, 20_000)?;
        ledger.migrate().await?;
        let sql = PgPoolOptions::new().max_connections(4).connect(&url).await?;
        let world = Self { ledger, sql, database };
        world
            .run(
                "INSERT INTO account (login_hash, login_sealed, password_hash, role)
                 VALUES ('\\x01', '\\x01', 'x', 'admin');
                 INSERT INTO patient (id_number_hash, id_number_sealed)
                 SELECT int8send(n), '\\x01' FROM generate_series(1, 100) n;
                 INSERT INTO hospital (name, time_zone, per_day_max, per_department_day_max, per_week_max)
                 VALUES ('East', 'Asia/Shanghai', NULL, NULL, NULL);
                 INSERT INTO department (hospital_id, name) VALUES (1, 'Eyes'), (1, 'Ears');
                 INSERT INTO release (hospital_id, name, opens_at, closes_at, created_by)
                 VALUES (1, 'due', now(), now() + interval '1 day', 1)",
            )
            .await?;
        Ok(world)
    }

    /// The same ledger, for whom a statement may not take longer than this.
    pub(crate) fn hurried(&self, statement_timeout_ms: u64) -> Result<Ledger> {
        started(&self.database.url(), statement_timeout_ms)
    }

    /// A world with one session of one slot of this capacity, on offer under an open first epoch.
    pub(crate) async fn on_offer(capacity: i32) -> Result<(Self, SlotId)> {
        let world = Self::new().await?;
        let session = world.session(P0, 7, &[capacity]).await?;
        world.open_first(P0).await?;
        Ok((world, SlotId::of(session, 0)))
    }

    /// Runs statements as they stand.
    pub(crate) async fn run(&self, sql: &str) -> Result<()> {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&self.sql).await?;
        Ok(())
    }

    /// Returns the one number a query gives.
    pub(crate) async fn number(&self, sql: &str) -> Result<i64> {
        Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&self.sql).await?)
    }

    /// Adds a session of the first department, some days ahead, in the release.
    pub(crate) async fn session(
        &self,
        partition: Partition,
        days: i32,
        capacities: &[i32],
    ) -> Result<SessionId> {
        self.session_of(1, partition, days, capacities).await
    }

    /// Adds a session of a department, with a doctor of its own.
    pub(crate) async fn session_of(
        &self,
        department: i64,
        partition: Partition,
        days: i32,
        capacities: &[i32],
    ) -> Result<SessionId> {
        let session: i64 = sqlx::query_scalar(
            "WITH doctor AS (
                 INSERT INTO doctor (department_id, name) VALUES ($1, 'Who') RETURNING id)
             INSERT INTO session (partition, hospital_id, department_id, doctor_id, on_date, period)
             SELECT $2, d.hospital_id, d.id, doctor.id, current_date + $3, 'morning'
             FROM doctor, department d
             WHERE d.id = $1
             RETURNING id",
        )
        .bind(department)
        .bind(i16::from(partition.get()))
        .bind(days)
        .fetch_one(&self.sql)
        .await?;
        sqlx::query(
            "INSERT INTO slot (id, session_id, partition, release_id, starts_at, ends_at, capacity)
             SELECT $1 << 8 | c.at - 1, $1, $2, 1, now() + make_interval(days => $3),
                 now() + make_interval(days => $3, hours => 1), c.capacity
             FROM unnest($4::integer[]) WITH ORDINALITY AS c (capacity, at)",
        )
        .bind(session)
        .bind(i16::from(partition.get()))
        .bind(days)
        .bind(capacities)
        .execute(&self.sql)
        .await?;
        // As preheated, whether the release is still planned or not.
        self.run("UPDATE slot SET target = capacity WHERE release_id = 1").await?;
        Ok(SessionId::from(session))
    }

    /// Opens a partition's first epoch.
    pub(crate) async fn open_first(&self, partition: Partition) -> Result<()> {
        let opened = self.open(partition, 0, "first").await?;
        ensure!(opened == Opened::Epoch(Epoch(1)), "{opened:?}");
        Ok(())
    }

    /// Opens the epoch after `current`.
    pub(crate) async fn open(
        &self,
        partition: Partition,
        current: i64,
        nonce: &str,
    ) -> Result<Opened> {
        let nonce = Nonce(nonce.to_owned());
        Ok(self.ledger.open_epoch(partition, Epoch(current), &term(), &nonce).await?)
    }

    /// Returns a slot's counters.
    pub(crate) async fn places(&self, slot: SlotId) -> Result<Places> {
        sqlx::query_as("SELECT booked, escrowed, issued FROM slot WHERE id = $1")
            .bind(slot.get())
            .fetch_one(&self.sql)
            .await
            .context("no such slot")
    }

    /// Returns granted and consumed of an allotment.
    pub(crate) async fn allotment(&self, epoch: i64, slot: SlotId) -> Result<(i32, i32)> {
        sqlx::query_as("SELECT granted, consumed FROM epoch_slot WHERE e = $1 AND slot_id = $2")
            .bind(epoch)
            .bind(slot.get())
            .fetch_one(&self.sql)
            .await
            .context("no such allotment")
    }

    /// Persists bookings and returns what became of each, in order.
    pub(crate) async fn persist(&self, bookings: &[Booking]) -> Result<Vec<Outcome>> {
        let persisted = self.ledger.persist(P0, bookings).await?;
        ensure!(persisted.len() == bookings.len(), "{persisted:?}");
        let find = |b: &Booking| persisted.iter().find(|p| p.id == b.id).map(|p| p.outcome);
        bookings.iter().map(|b| find(b).context("a booking has no answer")).collect()
    }

    /// Persists one booking.
    pub(crate) async fn persist_one(&self, booking: &Booking) -> Result<Outcome> {
        Ok(self.persist(std::slice::from_ref(booking)).await?[0])
    }

    /// Asserts that the ledger is sound.
    pub(crate) async fn assert_sound(&self) -> Result<()> {
        let found = self.ledger.audit().await?;
        ensure!(found.is_empty(), "{found:#?}");
        Ok(())
    }

    /// Waits until so many statements of the ledger wait for a lock.
    pub(crate) async fn until_blocked(&self, statements: i64) -> Result<()> {
        let sql = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database()
                     AND application_name = 'steps'
                     AND wait_event_type = 'Lock'";
        testkit::eventually("statements waiting for a lock", SOON, || async {
            (self.number(sql).await.ok()? >= statements).then_some(())
        })
        .await
    }
}

fn started(url: &str, statement_timeout_ms: u64) -> Result<Ledger> {
    let settings = Settings {
        url: url.to_owned().into(),
        connections_max: 6,
        acquire_timeout_ms: 5_000,
        statement_timeout_ms,
        application_name: "steps",
    };
    Ok(Ledger::start(&settings)?)
}

/// The Redis life of every epoch here.
pub(crate) fn term() -> Term {
    Term { run_id: "run".to_owned(), replid: "replid".to_owned() }
}

/// A booking under epoch 1, with a key of its own.
pub(crate) fn booking(n: i64, slot: SlotId, patient: i64) -> Booking {
    let patient = PatientId::from(patient);
    Booking {
        // Time, then partition 0: ids as the gateways mint them.
        id: BookingId::from(n << 22),
        epoch: Epoch(1),
        slot,
        patient,
        account: AccountId::from(1),
        key: Digest::of_key(&n.to_string()),
        request: Digest::of_request(slot, patient),
        accepted_at: UnixMs(1_795_158_000_123),
    }
}

/// Bookings `1..=count`, each of the patient of its number.
pub(crate) fn bookings(count: i64, slot: SlotId) -> Vec<Booking> {
    (1..=count).map(|n| booking(n, slot, n)).collect()
}

/// The outcome of a winner.
pub(crate) fn won(number: u32) -> Outcome {
    Outcome::Row { state: State::Booked, reason: None, number: Some(number) }
}

/// The outcome of a loser.
pub(crate) fn lost(reason: Reason) -> Outcome {
    Outcome::Row { state: State::Rejected, reason: Some(reason), number: None }
}

/// The name of what was refused.
pub(crate) fn refusal<T: std::fmt::Debug>(answer: Result<T, ledger::Error>) -> String {
    match answer {
        Err(ledger::Error::Refused { constraint }) => constraint,
        other => format!("not refused: {other:?}"),
    }
}

/// One booking, persisted by hand.
pub(crate) fn persist_sql(partition: i16, n: i64, slot: SlotId, patient: i64) -> String {
    let id = booking(n, slot, patient).id;
    format!(
        "SELECT * FROM persist_bookings({partition}::smallint, ARRAY[{id}]::bigint[],
             ARRAY[1]::bigint[], ARRAY[{slot}]::bigint[], ARRAY[{patient}]::bigint[],
             ARRAY[1]::bigint[], ARRAY[int8send({n})]::bytea[], ARRAY['\\x01']::bytea[],
             ARRAY[0]::bigint[])"
    )
}
