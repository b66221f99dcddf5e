//! `GET /v1/doctors`

use axum::extract::State;
use axum::response::Response;
use booking::DepartmentId;
use ledger::catalogue::Doctor;
use serde::Deserialize;

use super::view::DoctorView;
use crate::app::App;
use crate::extract::Query;
use crate::page::{self, Page};
use crate::problem::{Problem, ProblemBody};

/// Which doctors.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DoctorsQuery {
    /// Of this department.
    #[param(value_type = String)]
    department_id: DepartmentId,
    /// Where the page begins.
    cursor: Option<String>,
    /// Most items, 1 to 200; 50 if not said.
    limit: Option<u16>,
}

/// List a department's doctors
#[utoipa::path(
    get,
    path = "/v1/doctors",
    tag = "catalogue",
    params(DoctorsQuery),
    responses(
        (status = 200, body = Page<DoctorView>),
        (status = 400, body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub async fn doctors(
    State(app): State<App>,
    Query(query): Query<DoctorsQuery>,
) -> Result<Response, Problem> {
    let limit = page::limit(query.limit)?;
    let after = page::decode_id(query.cursor.as_deref())?;
    let department = query.department_id;
    let make = async || {
        let rows = app.ledger.doctors(department, after, limit + 1).await?;
        let place = |row: &Doctor| row.id.to_string();
        Ok(Some(Page::of(rows, limit, place, DoctorView::from)))
    };
    super::shared(&app, format!("doctors {department} {after:?} {limit}"), make).await
}
