//! Departments of hospitals.

use booking::{AccountId, DepartmentId, HospitalId};

use crate::{Error, Ledger};

/// A department of a hospital.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Department {
    /// Its id.
    pub id: DepartmentId,
    /// Its hospital.
    pub hospital: HospitalId,
    /// Its name, unique in the hospital.
    pub name: String,
}

/// The outcome of making a department.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DepartmentCreated {
    /// Made.
    Done(DepartmentId),
    /// The hospital has one of this name.
    NameTaken,
    /// There is no such hospital.
    NoHospital,
}

impl Ledger {
    /// Makes a department.
    pub async fn create_department(
        &self,
        actor: AccountId,
        hospital: HospitalId,
        name: String,
    ) -> Result<DepartmentCreated, Error> {
        let (has_hospital, made): (bool, Option<i64>) = self
            .run(move |pool| async move {
                sqlx::query_as(CREATE)
                    .bind(hospital.get())
                    .bind(name)
                    .bind(actor.get())
                    .fetch_one(&pool)
                    .await
            })
            .await?;
        Ok(match made {
            Some(id) => DepartmentCreated::Done(DepartmentId::from(id)),
            None if has_hospital => DepartmentCreated::NameTaken,
            None => DepartmentCreated::NoHospital,
        })
    }

    /// Lists a hospital's departments.
    pub async fn departments(
        &self,
        hospital: HospitalId,
        after: Option<DepartmentId>,
        limit: u16,
    ) -> Result<Vec<Department>, Error> {
        let rows: Vec<(i64, String)> = self
            .run(move |pool| async move {
                sqlx::query_as(LIST)
                    .bind(hospital.get())
                    .bind(after.map_or(0, DepartmentId::get))
                    .bind(i32::from(limit))
                    .fetch_all(&pool)
                    .await
            })
            .await?;
        let department = |(id, name)| Department { id: DepartmentId::from(id), hospital, name };
        Ok(rows.into_iter().map(department).collect())
    }
}

const CREATE: &str = "
    WITH made AS (
        INSERT INTO department (hospital_id, name)
        SELECT id, $2
        FROM hospital
        WHERE id = $1
        ON CONFLICT ON CONSTRAINT department_name_key DO NOTHING
        RETURNING id
    ), noted AS (
        INSERT INTO audit_log (account_id, action, subject, subject_id)
        SELECT $3, 'create', 'department', id
        FROM made
    )
    SELECT EXISTS (SELECT FROM hospital WHERE id = $1), (SELECT id FROM made)";

const LIST: &str = "
    SELECT id, name
    FROM department
    WHERE hospital_id = $1
      AND id > $2
    ORDER BY id
    LIMIT $3";
