//! Clinic sessions: one doctor, one date, one period, with their slots.

use booking::rules::Limits;
use booking::{
    AccountId, DepartmentId, DoctorId, HospitalId, Partition, PartitionCount, ReleaseId, SessionId,
    UnixMs,
};
use jiff::civil::Date;
use jiff_sqlx::ToSqlx;

use super::doctor::{self, Doctor};
use super::hospital::read_limits;
use super::slot::{self, NewSlot, Slot, SlotRow};
use crate::release::unix_ms;
use crate::{Error, Ledger};

/// A part of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// 上午
    Morning,
    /// 下午
    Afternoon,
    /// 晚上
    Evening,
}

impl Period {
    /// Returns the word stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Morning => "morning",
            Self::Afternoon => "afternoon",
            Self::Evening => "evening",
        }
    }

    /// Reads the stored word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Morning, Self::Afternoon, Self::Evening]
            .into_iter()
            .find(|period| period.as_str() == word)
    }
}

/// A session to be made.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Who sees the patients.
    pub doctor: DoctorId,
    /// The date in the hospital's time zone.
    pub on_date: Date,
    /// The part of the day.
    pub period: Period,
    /// At most 256, in order.
    pub slots: Vec<NewSlot>,
}

/// The outcome of making a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionCreated {
    /// Made. Slot number n is `SlotId::of(session, n)`.
    Done(SessionId),
    /// The doctor has a session on that date and period.
    AlreadyThere,
    /// A slot of it lies in one of another session that the doctor has on that date.
    Overlaps,
    /// There is no such doctor.
    NoDoctor,
}

/// A session with its slots, as shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Where it lies.
    pub partition: Partition,
    /// Its hospital.
    pub hospital: HospitalId,
    /// IANA name of the hospital's time zone.
    pub time_zone: String,
    /// Who sees the patients.
    pub doctor: Doctor,
    /// The date in the hospital's time zone.
    pub on_date: Date,
    /// The part of the day.
    pub period: Period,
    /// Called off.
    pub is_withdrawn: bool,
    /// Its slots, in order.
    pub slots: Vec<Slot>,
}

/// Which sessions a list is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionFilter {
    /// One doctor's.
    Doctor(DoctorId),
    /// One department's.
    Department(DepartmentId),
}

impl SessionFilter {
    fn ids(self) -> (Option<i64>, Option<i64>) {
        match self {
            Self::Doctor(id) => (Some(id.get()), None),
            Self::Department(id) => (None, Some(id.get())),
        }
    }
}

/// What admission must know of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFacts {
    /// Its hospital.
    pub hospital: HospitalId,
    /// Its department.
    pub department: DepartmentId,
    /// Days since 1970-01-01 of its date.
    pub day: i32,
    /// The hospital's limits.
    pub limits: Limits,
    /// IANA name of the hospital's time zone.
    pub time_zone: String,
    /// Called off.
    pub is_withdrawn: bool,
    /// When its slots begin, by their ordinals.
    pub starts: Vec<UnixMs>,
}

impl Ledger {
    /// Makes a session and its slots. The caller has checked their times.
    pub async fn create_session(
        &self,
        actor: AccountId,
        partitions: PartitionCount,
        new: NewSession,
    ) -> Result<SessionCreated, Error> {
        // The id decides the partition, so it is drawn first. A drawn id that is not used is lost.
        let id: i64 = self
            .run(|pool| async move { sqlx::query_scalar(NEXT_ID).fetch_one(&pool).await })
            .await?;
        let partition = partitions.of_session(SessionId::from(id));
        let at = |ms: booking::UnixMs| crate::release::timestamp(ms);
        let starts: Vec<_> = new.slots.iter().map(|slot| at(slot.starts_at)).collect();
        let ends: Vec<_> = new.slots.iter().map(|slot| at(slot.ends_at)).collect();
        let capacities: Vec<i32> =
            new.slots.iter().map(|slot| i32::try_from(slot.capacity).unwrap_or(i32::MAX)).collect();
        let outcome: String = self
            .run(move |pool| async move {
                sqlx::query_scalar("SELECT session_create($1, $2, $3, $4, $5, $6, $7, $8, $9)")
                    .bind(actor.get())
                    .bind(id)
                    .bind(i16::from(partition.get()))
                    .bind(new.doctor.get())
                    .bind(new.on_date.to_sqlx())
                    .bind(new.period.as_str())
                    .bind(starts)
                    .bind(ends)
                    .bind(capacities)
                    .fetch_one(&pool)
                    .await
            })
            .await?;
        match outcome.as_str() {
            "done" => Ok(SessionCreated::Done(SessionId::from(id))),
            "no_doctor" => Ok(SessionCreated::NoDoctor),
            "already_there" => Ok(SessionCreated::AlreadyThere),
            "overlaps" => Ok(SessionCreated::Overlaps),
            other => Err(Error::unknown_word("outcome", other)),
        }
    }

    /// Finds a session with its slots.
    pub async fn session(&self, id: SessionId) -> Result<Option<Session>, Error> {
        let rows: Vec<SessionRow> =
            self.run(move |pool| async move {
                sqlx::query_as(FIND).bind(id.get()).fetch_all(&pool).await
            })
            .await?;
        Ok(self.with_slots(rows).await?.pop())
    }

    /// Lists sessions that stand, from `from` to `to` (both included), by date and id, from
    /// behind `after`.
    pub async fn sessions(
        &self,
        filter: SessionFilter,
        from: Date,
        to: Date,
        after: Option<(Date, SessionId)>,
        limit: u16,
    ) -> Result<Vec<Session>, Error> {
        let (doctor, department) = filter.ids();
        let (after_date, after_id) = after.map_or((from, 0), |(date, id)| (date, id.get()));
        let rows: Vec<SessionRow> = self
            .run(move |pool| async move {
                sqlx::query_as(LIST)
                    .bind(doctor)
                    .bind(department)
                    .bind(from.to_sqlx())
                    .bind(to.to_sqlx())
                    .bind(after_date.to_sqlx())
                    .bind(after_id)
                    .bind(i32::from(limit))
                    .fetch_all(&pool)
                    .await
            })
            .await?;
        self.with_slots(rows).await
    }

    /// Returns the IANA name of the time zone a filter's sessions are meant in; `None` if there
    /// is no such doctor or department.
    pub async fn zone_of(&self, filter: SessionFilter) -> Result<Option<String>, Error> {
        let (doctor, department) = filter.ids();
        self.run(move |pool| async move {
            sqlx::query_scalar(ZONE).bind(doctor).bind(department).fetch_optional(&pool).await
        })
        .await
    }

    /// Tells what admission must know of these sessions; those that are not there are left out.
    pub async fn session_facts(
        &self,
        ids: &[SessionId],
    ) -> Result<Vec<(SessionId, SessionFacts)>, Error> {
        let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
        let rows: Vec<FactsRow> = self
            .run(move |pool| async move { sqlx::query_as(FACTS).bind(ids).fetch_all(&pool).await })
            .await?;
        Ok(rows.into_iter().map(FactsRow::read).collect())
    }

    /// Returns the sessions that a release has slots of, in no order, at most `limit`.
    pub async fn sessions_of_release(
        &self,
        release: ReleaseId,
        limit: usize,
    ) -> Result<Vec<SessionId>, Error> {
        let ids: Vec<i64> = self
            .run(move |pool| async move {
                sqlx::query_scalar("SELECT sessions_of_release($1, $2)")
                    .bind(release.get())
                    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                    .fetch_all(&pool)
                    .await
            })
            .await?;
        Ok(ids.into_iter().map(SessionId::from).collect())
    }

    async fn with_slots(&self, rows: Vec<SessionRow>) -> Result<Vec<Session>, Error> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let slots: Vec<SlotRow> = self
            .run(move |pool| async move {
                sqlx::query_as(slot::OF_SESSIONS).bind(ids).fetch_all(&pool).await
            })
            .await?;
        let mut sessions = rows.into_iter().map(SessionRow::read).collect::<Result<Vec<_>, _>>()?;
        for row in slots {
            let slot = row.read()?;
            if let Some(session) = sessions.iter_mut().find(|one| one.id == slot.id.session()) {
                session.slots.push(slot);
            }
        }
        Ok(sessions)
    }
}

#[derive(sqlx::FromRow)]
struct FactsRow {
    id: i64,
    hospital_id: i64,
    department_id: i64,
    day: i32,
    per_day_max: Option<i16>,
    per_department_day_max: Option<i16>,
    per_week_max: Option<i16>,
    time_zone: String,
    is_withdrawn: bool,
    starts_at: Vec<jiff_sqlx::Timestamp>,
}

impl FactsRow {
    fn read(self) -> (SessionId, SessionFacts) {
        let facts = SessionFacts {
            hospital: HospitalId::from(self.hospital_id),
            department: DepartmentId::from(self.department_id),
            day: self.day,
            limits: read_limits(self.per_day_max, self.per_department_day_max, self.per_week_max),
            time_zone: self.time_zone,
            is_withdrawn: self.is_withdrawn,
            starts: self.starts_at.into_iter().map(unix_ms).collect(),
        };
        (SessionId::from(self.id), facts)
    }
}

#[derive(sqlx::FromRow)]
struct SessionRow {
    id: i64,
    partition: i16,
    hospital_id: i64,
    time_zone: String,
    doctor_id: i64,
    department_id: i64,
    name: String,
    rank: String,
    fee_fen: i32,
    on_date: jiff_sqlx::Date,
    period: String,
    is_withdrawn: bool,
}

impl SessionRow {
    fn read(self) -> Result<Session, Error> {
        let period = Period::from_word(&self.period)
            .ok_or_else(|| Error::unknown_word("period", &self.period))?;
        Ok(Session {
            id: SessionId::from(self.id),
            partition: Partition::new(u8::try_from(self.partition).unwrap_or(0)),
            hospital: HospitalId::from(self.hospital_id),
            time_zone: self.time_zone,
            doctor: doctor::read(
                self.doctor_id,
                self.department_id,
                self.name,
                &self.rank,
                self.fee_fen,
            )?,
            on_date: self.on_date.to_jiff(),
            period,
            is_withdrawn: self.is_withdrawn,
            slots: Vec::new(),
        })
    }
}

const NEXT_ID: &str = "
    SELECT nextval(pg_get_serial_sequence('session', 'id'))";

const FIND: &str = "
    SELECT s.id, s.partition, s.hospital_id, hospital.time_zone,
           doctor.id AS doctor_id, s.department_id, doctor.name, doctor.rank, doctor.fee_fen,
           s.on_date, s.period, s.withdrawn_at IS NOT NULL AS is_withdrawn
    FROM session s
    JOIN hospital ON hospital.id = s.hospital_id
    JOIN doctor ON doctor.id = s.doctor_id
    WHERE s.id = $1";

const LIST: &str = "
    SELECT s.id, s.partition, s.hospital_id, hospital.time_zone,
           doctor.id AS doctor_id, s.department_id, doctor.name, doctor.rank, doctor.fee_fen,
           s.on_date, s.period, s.withdrawn_at IS NOT NULL AS is_withdrawn
    FROM session s
    JOIN hospital ON hospital.id = s.hospital_id
    JOIN doctor ON doctor.id = s.doctor_id
    WHERE ($1::bigint IS NULL OR s.doctor_id = $1)
      AND ($2::bigint IS NULL OR s.department_id = $2)
      AND s.on_date BETWEEN $3 AND $4
      AND (s.on_date, s.id) > ($5, $6)
      AND s.withdrawn_at IS NULL
    ORDER BY s.on_date, s.id
    LIMIT $7";

const ZONE: &str = "
    SELECT hospital.time_zone
    FROM department
    JOIN hospital ON hospital.id = department.hospital_id
    WHERE department.id = coalesce($2, (SELECT department_id FROM doctor WHERE id = $1))";

const FACTS: &str = "
    SELECT s.id, s.hospital_id, s.department_id, s.on_date - DATE '1970-01-01' AS day,
           hospital.per_day_max, hospital.per_department_day_max, hospital.per_week_max,
           hospital.time_zone, s.withdrawn_at IS NOT NULL AS is_withdrawn,
           -- In the order of their ids, which is that of their ordinals from 0.
           ARRAY(SELECT slot.starts_at FROM slot
               WHERE slot.session_id = s.id ORDER BY slot.id) AS starts_at
    FROM session s
    JOIN hospital ON hospital.id = s.hospital_id
    WHERE s.id = ANY ($1)";
