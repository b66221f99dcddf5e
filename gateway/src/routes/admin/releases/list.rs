//! `GET /v1/admin/releases`

use axum::extract::State;
use ledger::release::Release;
use serde::Deserialize;

use super::view::ReleaseView;
use crate::app::App;
use crate::auth::Admin;
use crate::extract::{Json, Query};
use crate::page::{self, Page};
use crate::problem::{Problem, ProblemBody};

/// Which releases.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReleasesQuery {
    /// Where the page begins.
    cursor: Option<String>,
    /// Most items, 1 to 200; 50 if not said.
    limit: Option<u16>,
}

/// List releases, latest made first, without what is left by Redis's count
#[utoipa::path(
    get,
    path = "/v1/admin/releases",
    tag = "admin",
    security(("token" = [])),
    params(ReleasesQuery),
    responses(
        (status = 200, body = Page<ReleaseView>),
        (status = 403, body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub async fn list_releases(
    State(app): State<App>,
    _admin: Admin,
    Query(query): Query<ReleasesQuery>,
) -> Result<Json<Page<ReleaseView>>, Problem> {
    let limit = page::limit(query.limit)?;
    let before = page::decode_id(query.cursor.as_deref())?;
    let rows = app.ledger.releases(before, limit + 1).await?;
    let now = app.clock.now();
    let place = |row: &Release| row.id.to_string();
    Ok(Json(Page::of(rows, limit, place, |row| ReleaseView::of(row, None, now))))
}
