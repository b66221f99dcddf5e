//! What is on offer: a release of its own for every round, in a hospital without limits of its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use booking::rules::Limits;
use booking::{
    AccountId, Clock as _, HospitalId, Partition, ReleaseId, SessionId, SlotId, SystemClock,
};
use inventory::SlotCount;
use jiff::civil::Date;
use ledger::Ledger;
use ledger::catalogue::department::DepartmentCreated;
use ledger::catalogue::doctor::{DoctorCreated, NewDoctor, Rank};
use ledger::catalogue::hospital::HospitalCreated;
use ledger::catalogue::session::Period;
use ledger::release::{NewRelease, ReleaseChanged, ReleaseCreated, ReleaseVerb};
use testkit::unique;

use super::{World, psql};

/// How long it may take until places stand in Redis, or none do.
const STAND_MAX: Duration = Duration::from_mins(5);
/// How often Redis is asked for the places: for all of them, so not more often.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Sessions of one hospital and one release.
const SESSIONS_PER_HOSPITAL: u32 = 5_000;
/// Sessions of one doctor: three a day.
const PERIODS: [Period; 3] = [Period::Morning, Period::Afternoon, Period::Evening];
const HOUR_MS: i64 = 3_600_000;
/// How long a release stays open.
const OPEN_FOR_MS: i64 = 24 * HOUR_MS;

/// A release that is open.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Its slots.
    pub slots: Vec<SlotId>,
    /// Places of each.
    pub capacity: u32,
    releases: Vec<ReleaseId>,
    sessions: Vec<SessionId>,
    /// From the admin's command until every place stood in Redis, ms.
    pub preheat_ms: f64,
}

impl World {
    /// Puts `sessions` of `slots` slots with `capacity` places each on offer, and waits until all of
    /// them stand in Redis.
    ///
    /// # Errors
    /// If the ledger refuses, or it takes more than five minutes.
    pub async fn offer(&self, sessions: u32, slots: u8, capacity: u32) -> Result<Offer> {
        let ledger = self.probe.ledger();
        let (mut of_all, mut all_slots, mut releases) = (Vec::new(), Vec::new(), Vec::new());
        for first in (0..sessions).step_by(SESSIONS_PER_HOSPITAL as usize) {
            let count = SESSIONS_PER_HOSPITAL.min(sessions - first);
            let clinic = Clinic::make(ledger, self.admin, count).await?;
            let made = clinic.sessions(self, count, slots, capacity).await?;
            let places = |session| (0..slots).map(move |place| SlotId::of(session, place));
            let of_them: Vec<SlotId> = made.iter().copied().flat_map(places).collect();
            releases.push(self.release(clinic.hospital, of_them.clone()).await?);
            of_all.extend(made);
            all_slots.extend(of_them);
        }
        let started = Instant::now();
        for release in &releases {
            let changed = ledger.change_release(self.admin, *release, ReleaseVerb::Preheat).await?;
            ensure!(changed == ReleaseChanged::Done, "not preheated: {changed:?}");
        }
        self.stand(&of_all, all_slots.len() * capacity as usize).await?;
        let preheat_ms = started.elapsed().as_secs_f64() * 1_000.0;
        Ok(Offer { slots: all_slots, capacity, releases, sessions: of_all, preheat_ms })
    }

    /// Counts the places of a slot that have their row.
    ///
    /// # Errors
    /// If PostgreSQL does not answer, or knows of no such slot.
    pub async fn persisted_of(&self, slot: SlotId) -> Result<u32> {
        let session = self.probe.ledger().session(slot.session()).await?;
        let slots = session.map(|session| session.slots).unwrap_or_default();
        let found =
            slots.into_iter().find(|one| one.id == slot).context("there is no such slot")?;
        Ok(found.capacity - found.left)
    }

    /// Ends the releases of an offer, and waits until none of its places stands in Redis.
    ///
    /// # Errors
    /// If the ledger refuses, or it takes more than five minutes.
    pub async fn withdraw(&self, offer: Offer) -> Result<()> {
        let ledger = self.probe.ledger();
        for release in offer.releases {
            let closed = ledger.change_release(self.admin, release, ReleaseVerb::Close).await?;
            ensure!(closed == ReleaseChanged::Done, "not closed: {closed:?}");
        }
        self.stand(&offer.sessions, 0).await
    }

    /// Clears up the rows that were changed by offering and withdrawing. Otherwise it is done in the
    /// background of the rounds.
    ///
    /// # Errors
    /// If PostgreSQL can't be reached.
    pub async fn clear_up(&self) -> Result<()> {
        for table in ["slot", "epoch_slot", "slot_uneven"] {
            self.sql(&format!("VACUUM (ANALYZE) {table}")).await?;
        }
        Ok(())
    }

    async fn release(&self, hospital: HospitalId, slots: Vec<SlotId>) -> Result<ReleaseId> {
        let now = SystemClock.now();
        let release = NewRelease {
            hospital,
            name: unique(),
            opens_at: now,
            closes_at: now.plus_ms(OPEN_FOR_MS),
            slots,
        };
        let created = self.probe.ledger().create_release(self.admin, release).await?;
        let ReleaseCreated::Done(release) = created else { bail!("no release: {created:?}") };
        Ok(release)
    }

    /// Waits until so many places of these sessions stand in Redis.
    async fn stand(&self, sessions: &[SessionId], places: usize) -> Result<()> {
        let deadline = Instant::now() + STAND_MAX;
        loop {
            let looked = Instant::now();
            let left: usize =
                self.counts(sessions).await?.iter().map(|count| count.left as usize).sum();
            if left == places {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{left} of {places} places stand in Redis");
            // To look at a million slots takes longer than that.
            tokio::time::sleep(LOOK_EVERY.max(2 * looked.elapsed())).await;
        }
    }

    /// Redis's counters of the slots of these sessions.
    ///
    /// # Errors
    /// If Redis can't be asked.
    pub async fn counts(&self, sessions: &[SessionId]) -> Result<Vec<SlotCount>> {
        let mut by_partition: BTreeMap<Partition, Vec<SessionId>> = BTreeMap::new();
        for session in sessions {
            let partition = self.probe.partitions().of_session(*session);
            by_partition.entry(partition).or_default().push(*session);
        }
        let mut counts = Vec::new();
        for (partition, sessions) in by_partition {
            counts.extend(self.probe.inventory().snapshot(partition, &sessions).await?);
        }
        Ok(counts)
    }
}

/// A hospital with as many doctors as its sessions need.
struct Clinic {
    hospital: booking::HospitalId,
    doctors: Vec<booking::DoctorId>,
    first: Date,
}

impl Clinic {
    /// Days ahead on which there are sessions.
    const DAYS: u32 = 300;

    async fn make(ledger: &Ledger, admin: AccountId, sessions: u32) -> Result<Self> {
        let limits = Limits { per_day_max: None, per_department_day_max: None, per_week_max: None };
        let hospital = ledger.create_hospital(admin, unique(), "UTC".to_owned(), limits).await?;
        let HospitalCreated::Done(hospital) = hospital else { bail!("{hospital:?}") };
        let department = ledger.create_department(admin, hospital, unique()).await?;
        let DepartmentCreated::Done(department) = department else { bail!("{department:?}") };
        let mut doctors = Vec::new();
        for _ in 0..sessions.div_ceil(Self::DAYS * 3) {
            let new =
                NewDoctor { department, name: unique(), rank: Rank::Attending, fee_fen: 5_000 };
            let created = ledger.create_doctor(admin, new).await?;
            let DoctorCreated::Done(doctor) = created else { bail!("{created:?}") };
            doctors.push(doctor);
        }
        let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
        let first = today.checked_add(jiff::Span::new().days(2))?;
        Ok(Self { hospital, doctors, first })
    }

    /// Makes all sessions in one transaction: five thousand would take a minute one by one. The ids are
    /// drawn first, because the program that makes a session computes its partition.
    async fn sessions(
        &self,
        world: &World,
        count: u32,
        slots: u8,
        capacity: u32,
    ) -> Result<Vec<SessionId>> {
        let ids = world
            .sql(&format!(
                "SELECT nextval(pg_get_serial_sequence('session', 'id')) FROM generate_series(1, {count})"
            ))
            .await?;
        let ids: Vec<i64> = ids.lines().map(str::parse).collect::<Result<_, _>>()?;
        let mut rows = Vec::new();
        for (number, id) in (0..count).zip(&ids) {
            let partition = world.probe.partitions().of_session(SessionId::from(*id));
            let per_doctor = Self::DAYS * 3;
            let doctor = self.doctors[(number / per_doctor) as usize];
            let (day, period) = (number % per_doctor / 3, number % 3);
            let on_date = self.first.checked_add(jiff::Span::new().days(i64::from(day)))?;
            let hour = 8 + 5 * period;
            let period = PERIODS[period as usize].as_str();
            rows.push(format!(
                "({id}, {partition}, {doctor}, date '{on_date}', '{period}', {hour})"
            ));
        }
        let (admin, last) = (world.admin, slots - 1);
        let made = world
            .sql(&format!(
                "SELECT count(*) FILTER (WHERE made = 'done') FROM (
                     SELECT session_create({admin}, id, p::smallint, doctor, on_date, period,
                         (SELECT array_agg(begins + n * interval '1 min' ORDER BY n)
                          FROM generate_series(0, {last}) n),
                         (SELECT array_agg(begins + (n + 1) * interval '1 min' ORDER BY n)
                          FROM generate_series(0, {last}) n),
                         array_fill({capacity}, ARRAY[{slots}])) AS made
                     FROM (VALUES {}) AS s (id, p, doctor, on_date, period, hour),
                         LATERAL (SELECT (on_date + hour * interval '1 hour') AT TIME ZONE 'UTC' AS begins) b
                     OFFSET 0) all_of_them",
                rows.join(",")
            ))
            .await?;
        ensure!(made == count.to_string(), "{made} of {count} sessions were made");
        Ok(ids.into_iter().map(SessionId::from).collect())
    }
}

/// The account that was made before the first start.
pub(super) async fn find_admin(database: &str) -> Result<AccountId> {
    let id = psql(database, "SELECT id FROM account WHERE role = 'admin' LIMIT 1").await?;
    Ok(AccountId::from(id.parse::<i64>().context("no admin")?))
}
