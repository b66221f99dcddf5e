//! `GET /v1/hospitals`

use axum::extract::State;
use axum::response::Response;
use ledger::catalogue::Hospital;
use serde::Deserialize;

use super::view::HospitalView;
use crate::app::App;
use crate::extract::Query;
use crate::page::{self, Page};
use crate::problem::{Problem, ProblemBody};

/// Which hospitals.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HospitalsQuery {
    /// Where the page begins.
    cursor: Option<String>,
    /// Most items, 1 to 200; 50 if not said.
    limit: Option<u16>,
}

/// List hospitals
#[utoipa::path(
    get,
    path = "/v1/hospitals",
    tag = "catalogue",
    params(HospitalsQuery),
    responses(
        (status = 200, body = Page<HospitalView>),
        (status = 400, body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub async fn hospitals(
    State(app): State<App>,
    Query(query): Query<HospitalsQuery>,
) -> Result<Response, Problem> {
    let limit = page::limit(query.limit)?;
    let after = page::decode_id(query.cursor.as_deref())?;
    let make = async || {
        let rows = app.ledger.hospitals(after, limit + 1).await?;
        let place = |row: &Hospital| row.id.to_string();
        Ok(Some(Page::of(rows, limit, place, HospitalView::from)))
    };
    super::shared(&app, format!("hospitals {after:?} {limit}"), make).await
}
