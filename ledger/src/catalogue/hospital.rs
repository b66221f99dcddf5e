//! Hospitals and their limits on patients.

use booking::rules::Limits;
use booking::{AccountId, HospitalId};

use crate::{Error, Ledger};

/// A hospital.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hospital {
    /// Its id.
    pub id: HospitalId,
    /// Its name.
    pub name: String,
    /// IANA name of its time zone.
    pub time_zone: String,
    /// Its limits on the bookings of one patient.
    pub limits: Limits,
}

/// The outcome of making a hospital.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HospitalCreated {
    /// Made.
    Done(HospitalId),
    /// Another one has the name.
    NameTaken,
}

/// Id, per day, per department and day, per week.
type LimitsRow = (i64, Option<i16>, Option<i16>, Option<i16>);

impl Ledger {
    /// Makes a hospital. The caller has checked that the zone exists.
    pub async fn create_hospital(
        &self,
        actor: AccountId,
        name: String,
        time_zone: String,
        limits: Limits,
    ) -> Result<HospitalCreated, Error> {
        let made: Option<i64> = self
            .run(move |pool| async move {
                sqlx::query_scalar(CREATE)
                    .bind(name)
                    .bind(time_zone)
                    .bind(store_limit(limits.per_day_max))
                    .bind(store_limit(limits.per_department_day_max))
                    .bind(store_limit(limits.per_week_max))
                    .bind(actor.get())
                    .fetch_optional(&pool)
                    .await
            })
            .await?;
        Ok(made
            .map_or(HospitalCreated::NameTaken, |id| HospitalCreated::Done(HospitalId::from(id))))
    }

    /// Returns the limits of these hospitals; those that are not there are left out.
    pub async fn limits_of(&self, ids: &[HospitalId]) -> Result<Vec<(HospitalId, Limits)>, Error> {
        let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
        let rows: Vec<LimitsRow> = self
            .run(move |pool| async move {
                sqlx::query_as(
                    "SELECT id, per_day_max, per_department_day_max, per_week_max
                     FROM hospital
                     WHERE id = ANY ($1)",
                )
                .bind(ids)
                .fetch_all(&pool)
                .await
            })
            .await?;
        let read = |(id, day, department_day, week)| {
            (HospitalId::from(id), read_limits(day, department_day, week))
        };
        Ok(rows.into_iter().map(read).collect())
    }

    /// Lists hospitals.
    pub async fn hospitals(
        &self,
        after: Option<HospitalId>,
        limit: u16,
    ) -> Result<Vec<Hospital>, Error> {
        type Row = (i64, String, String, Option<i16>, Option<i16>, Option<i16>);
        let rows: Vec<Row> = self
            .run(move |pool| async move {
                sqlx::query_as(LIST)
                    .bind(after.map_or(0, HospitalId::get))
                    .bind(i32::from(limit))
                    .fetch_all(&pool)
                    .await
            })
            .await?;
        Ok(rows
            .into_iter()
            .map(|(id, name, time_zone, day, department_day, week)| Hospital {
                id: HospitalId::from(id),
                name,
                time_zone,
                limits: read_limits(day, department_day, week),
            })
            .collect())
    }
}

fn store_limit(max: Option<u16>) -> Option<i16> {
    max.map(|max| i16::try_from(max).unwrap_or(i16::MAX))
}

pub(super) fn read_limits(
    day: Option<i16>,
    department_day: Option<i16>,
    week: Option<i16>,
) -> Limits {
    let read = |max: Option<i16>| max.map(|max| u16::try_from(max).unwrap_or(0));
    Limits {
        per_day_max: read(day),
        per_department_day_max: read(department_day),
        per_week_max: read(week),
    }
}

const CREATE: &str = "
    WITH made AS (
        INSERT INTO hospital (name, time_zone, per_day_max, per_department_day_max, per_week_max)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT ON CONSTRAINT hospital_name_key DO NOTHING
        RETURNING id
    ), noted AS (
        INSERT INTO audit_log (account_id, action, subject, subject_id)
        SELECT $6, 'create', 'hospital', id
        FROM made
    )
    SELECT id FROM made";

const LIST: &str = "
    SELECT id, name, time_zone, per_day_max, per_department_day_max, per_week_max
    FROM hospital
    WHERE id > $1
    ORDER BY id
    LIMIT $2";
