//! `GET /v1/sessions/{id}`

use axum::extract::State;
use axum::response::Response;
use booking::SessionId;

use super::view::SessionView;
use crate::app::App;
use crate::catalogue::count_left;
use crate::extract::PathId;
use crate::problem::{Problem, ProblemBody};

/// Look at a session and what is left of it
#[utoipa::path(
    get,
    path = "/v1/sessions/{id}",
    tag = "catalogue",
    params(("id" = String, Path, description = "The session")),
    responses(
        (status = 200, body = SessionView),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub async fn session(
    State(app): State<App>,
    PathId(id): PathId<SessionId>,
) -> Result<Response, Problem> {
    let make = async || {
        let Some(session) = app.ledger.session(id).await? else { return Ok(None) };
        let mut sessions = [session];
        count_left(&app.inventory, &mut sessions).await;
        let [session] = sessions;
        Ok(Some(SessionView::of(session, app.clock.now())))
    };
    super::shared(&app, format!("session {id}"), make).await
}
