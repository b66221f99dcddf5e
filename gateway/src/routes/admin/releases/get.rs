//! `GET /v1/admin/releases/{id}`

use axum::extract::State;
use booking::ReleaseId;

use super::view::{self, ReleaseView};
use crate::app::App;
use crate::auth::Admin;
use crate::extract::{Json, PathId};
use crate::problem::{Code, Problem, ProblemBody};

/// Look at a release and its counts
#[utoipa::path(
    get,
    path = "/v1/admin/releases/{id}",
    tag = "admin",
    security(("token" = [])),
    params(("id" = String, Path, description = "The release")),
    responses(
        (status = 200, body = ReleaseView),
        (status = 403, body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub async fn get_release(
    State(app): State<App>,
    _admin: Admin,
    PathId(id): PathId<ReleaseId>,
) -> Result<Json<ReleaseView>, Problem> {
    let (_, view) = view::find(&app, id).await?.ok_or(Code::NotFound)?;
    Ok(Json(view))
}
