//! `GET /v1/departments`

use axum::extract::State;
use axum::response::Response;
use booking::HospitalId;
use ledger::catalogue::Department;
use serde::Deserialize;

use super::view::DepartmentView;
use crate::app::App;
use crate::extract::Query;
use crate::page::{self, Page};
use crate::problem::{Problem, ProblemBody};

/// Which departments.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DepartmentsQuery {
    /// Of this hospital.
    #[param(value_type = String)]
    hospital_id: HospitalId,
    /// Where the page begins.
    cursor: Option<String>,
    /// Most items, 1 to 200; 50 if not said.
    limit: Option<u16>,
}

/// List a hospital's departments
#[utoipa::path(
    get,
    path = "/v1/departments",
    tag = "catalogue",
    params(DepartmentsQuery),
    responses(
        (status = 200, body = Page<DepartmentView>),
        (status = 400, body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub async fn departments(
    State(app): State<App>,
    Query(query): Query<DepartmentsQuery>,
) -> Result<Response, Problem> {
    let limit = page::limit(query.limit)?;
    let after = page::decode_id(query.cursor.as_deref())?;
    let hospital = query.hospital_id;
    let make = async || {
        let rows = app.ledger.departments(hospital, after, limit + 1).await?;
        let place = |row: &Department| row.id.to_string();
        Ok(Some(Page::of(rows, limit, place, DepartmentView::from)))
    };
    super::shared(&app, format!("departments {hospital} {after:?} {limit}"), make).await
}
