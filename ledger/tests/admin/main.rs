//! Accounts, patients, catalogue and releases on a real PostgreSQL.

mod accounts;
mod catalogue;
mod grants;
mod patients;
mod releases;

use anyhow::Result;
use booking::rules::Limits;
use booking::{AccountId, DoctorId, HospitalId, PartitionCount, SessionId, SlotId, UnixMs};
use ledger::account::{NewAccount, Registered, Role};
use ledger::catalogue::{
    DepartmentCreated, DoctorCreated, HospitalCreated, NewDoctor, NewSession, NewSlot, Period,
    Rank, SessionCreated,
};
use ledger::{Ledger, Settings};
use sqlx::{Connection as _, PgConnection};
use testkit::Database;

/// 2026-03-02T08:00:00+08:00.
pub(crate) const MORNING: UnixMs = UnixMs(1_772_409_600_000);

/// A fresh ledger. The database lives as long as this does.
pub(crate) struct World {
    pub(crate) ledger: Ledger,
    database: Database,
}

impl World {
    pub(crate) async fn new() -> Result<Self> {
        let database = Database::create().await?;
        let ledger = Ledger::start(&Settings {
            url: database.url().into(),
            connections_max: 8,
            acquire_timeout_ms: 10_000,
            statement_timeout_ms: 10_000,
            application_name: "admin-test",
        })?;
        ledger.migrate().await?;
        Ok(Self { ledger, database })
    }

    /// A connection of its own, for what the ledger's interface does not tell.
    pub(crate) async fn connection(&self) -> Result<PgConnection> {
        Ok(PgConnection::connect(&self.database.url()).await?)
    }

    pub(crate) async fn account(&self, login: &str, role: Role) -> Result<AccountId> {
        let new = NewAccount {
            login_hash: login.as_bytes().to_vec(),
            login_sealed: b"sealed".to_vec(),
            password_hash: "!".to_owned(),
            role,
        };
        match self.ledger.create_account(None, new).await? {
            Registered::Done(id) => Ok(id),
            Registered::LoginTaken => anyhow::bail!("{login} is taken"),
        }
    }

    /// An admin, a hospital and a doctor of it.
    pub(crate) async fn clinic(&self, name: &str) -> Result<Clinic> {
        let admin = self.account(name, Role::Admin).await?;
        let limits = Limits { per_day_max: Some(2), ..Limits::default() };
        let zone = "Asia/Shanghai".to_owned();
        let made = self.ledger.create_hospital(admin, name.to_owned(), zone, limits).await?;
        let HospitalCreated::Done(hospital) = made else { anyhow::bail!("{made:?}") };
        let made = self.ledger.create_department(admin, hospital, "内科".to_owned()).await?;
        let DepartmentCreated::Done(department) = made else { anyhow::bail!("{made:?}") };
        let new =
            NewDoctor { department, name: "李".to_owned(), rank: Rank::Chief, fee_fen: 5000 };
        let made = self.ledger.create_doctor(admin, new).await?;
        let DoctorCreated::Done(doctor) = made else { anyhow::bail!("{made:?}") };
        Ok(Clinic { admin, hospital, doctor })
    }

    /// A session on the `day`th of March with two slots of these places.
    pub(crate) async fn session(
        &self,
        clinic: &Clinic,
        day: i8,
        capacity: u32,
    ) -> Result<SessionCreated> {
        let new = new_session(clinic, day, Period::Morning, 0, capacity);
        Ok(self.ledger.create_session(clinic.admin, partitions(), new).await?)
    }

    /// A session whose first slot begins so many hours after the usual time.
    pub(crate) async fn session_at(
        &self,
        clinic: &Clinic,
        day: i8,
        period: Period,
        hour: i64,
    ) -> Result<SessionCreated> {
        let new = new_session(clinic, day, period, hour, 1);
        Ok(self.ledger.create_session(clinic.admin, partitions(), new).await?)
    }

    pub(crate) async fn slots(&self, clinic: &Clinic, day: i8) -> Result<Vec<SlotId>> {
        match self.session(clinic, day, 10).await? {
            SessionCreated::Done(id) => Ok(slots_of(id)),
            other => anyhow::bail!("{other:?}"),
        }
    }
}

pub(crate) struct Clinic {
    pub(crate) admin: AccountId,
    pub(crate) hospital: HospitalId,
    pub(crate) doctor: DoctorId,
}

fn new_session(clinic: &Clinic, day: i8, period: Period, hour: i64, capacity: u32) -> NewSession {
    let slot = |hour: i64| NewSlot {
        starts_at: MORNING.plus_ms(hour * 3_600_000),
        ends_at: MORNING.plus_ms((hour + 1) * 3_600_000),
        capacity,
    };
    NewSession {
        doctor: clinic.doctor,
        on_date: jiff::civil::date(2026, 3, day),
        period,
        slots: vec![slot(hour), slot(hour + 1)],
    }
}

pub(crate) fn partitions() -> PartitionCount {
    PartitionCount::new(4).expect("four is allowed")
}

pub(crate) fn slots_of(session: SessionId) -> Vec<SlotId> {
    vec![SlotId::of(session, 0), SlotId::of(session, 1)]
}
