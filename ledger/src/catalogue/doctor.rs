//! Doctors of departments.

use booking::{AccountId, DepartmentId, DoctorId, HospitalId};

use crate::{Error, Ledger};

/// A doctor's rank, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// 住院医师
    Resident,
    /// 主治医师
    Attending,
    /// 副主任医师
    AssociateChief,
    /// 主任医师
    Chief,
}

impl Rank {
    /// Returns the word stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resident => "resident",
            Self::Attending => "attending",
            Self::AssociateChief => "associate_chief",
            Self::Chief => "chief",
        }
    }

    /// Reads the stored word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Resident, Self::Attending, Self::AssociateChief, Self::Chief]
            .into_iter()
            .find(|rank| rank.as_str() == word)
    }
}

/// A doctor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doctor {
    /// Their id.
    pub id: DoctorId,
    /// Their department.
    pub department: DepartmentId,
    /// Their name.
    pub name: String,
    /// Their rank.
    pub rank: Rank,
    /// Registration fee in fen (1/100 CNY).
    pub fee_fen: u32,
}

/// A doctor to be made.
#[derive(Clone, Debug)]
pub struct NewDoctor {
    /// Their department.
    pub department: DepartmentId,
    /// Their name.
    pub name: String,
    /// Their rank.
    pub rank: Rank,
    /// Registration fee in fen (1/100 CNY).
    pub fee_fen: u32,
}

/// The outcome of making a doctor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoctorCreated {
    /// Made.
    Done(DoctorId),
    /// There is no such department.
    NoDepartment,
}

/// Where a doctor works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoctorPlace {
    /// The hospital.
    pub hospital: HospitalId,
    /// The department.
    pub department: DepartmentId,
    /// IANA name of the hospital's time zone.
    pub time_zone: String,
}

impl Ledger {
    /// Makes a doctor.
    pub async fn create_doctor(
        &self,
        actor: AccountId,
        new: NewDoctor,
    ) -> Result<DoctorCreated, Error> {
        let made: Option<i64> = self
            .run(move |pool| async move {
                sqlx::query_scalar(CREATE)
                    .bind(new.department.get())
                    .bind(new.name)
                    .bind(new.rank.as_str())
                    .bind(i32::try_from(new.fee_fen).unwrap_or(i32::MAX))
                    .bind(actor.get())
                    .fetch_optional(&pool)
                    .await
            })
            .await?;
        Ok(made.map_or(DoctorCreated::NoDepartment, |id| DoctorCreated::Done(DoctorId::from(id))))
    }

    /// Lists a department's doctors.
    pub async fn doctors(
        &self,
        department: DepartmentId,
        after: Option<DoctorId>,
        limit: u16,
    ) -> Result<Vec<Doctor>, Error> {
        let rows: Vec<(i64, i64, String, String, i32)> = self
            .run(move |pool| async move {
                sqlx::query_as(LIST)
                    .bind(department.get())
                    .bind(after.map_or(0, DoctorId::get))
                    .bind(i32::from(limit))
                    .fetch_all(&pool)
                    .await
            })
            .await?;
        rows.into_iter()
            .map(|(id, department, name, rank, fee)| read(id, department, name, &rank, fee))
            .collect()
    }

    /// Tells where a doctor works; `None` if there is no such doctor.
    pub async fn place_of_doctor(&self, doctor: DoctorId) -> Result<Option<DoctorPlace>, Error> {
        let row: Option<(i64, i64, String)> = self
            .run(move |pool| async move {
                sqlx::query_as(PLACE).bind(doctor.get()).fetch_optional(&pool).await
            })
            .await?;
        Ok(row.map(|(hospital, department, time_zone)| DoctorPlace {
            hospital: HospitalId::from(hospital),
            department: DepartmentId::from(department),
            time_zone,
        }))
    }
}

pub(super) fn read(
    id: i64,
    department: i64,
    name: String,
    rank: &str,
    fee_fen: i32,
) -> Result<Doctor, Error> {
    Ok(Doctor {
        id: DoctorId::from(id),
        department: DepartmentId::from(department),
        name,
        rank: Rank::from_word(rank).ok_or_else(|| Error::unknown_word("rank", rank))?,
        fee_fen: u32::try_from(fee_fen).unwrap_or(0),
    })
}

const CREATE: &str = "
    WITH made AS (
        INSERT INTO doctor (department_id, name, rank, fee_fen)
        SELECT id, $2, $3, $4
        FROM department
        WHERE id = $1
        RETURNING id
    ), noted AS (
        INSERT INTO audit_log (account_id, action, subject, subject_id)
        SELECT $5, 'create', 'doctor', id
        FROM made
    )
    SELECT id FROM made";

const LIST: &str = "
    SELECT id, department_id, name, rank, fee_fen
    FROM doctor
    WHERE department_id = $1
      AND id > $2
    ORDER BY id
    LIMIT $3";

const PLACE: &str = "
    SELECT hospital.id, department.id, hospital.time_zone
    FROM doctor
    JOIN department ON department.id = doctor.department_id
    JOIN hospital ON hospital.id = department.hospital_id
    WHERE doctor.id = $1";
