//! `POST /v1/tokens/revoke`

use axum::extract::State;
use axum::http::StatusCode;

use super::RefreshRequest;
use crate::app::App;
use crate::auth::refresh as token;
use crate::extract::Json;
use crate::problem::{Problem, ProblemBody};

/// Log out: end everything that descends from the log-in
///
/// Access tokens already given stay good until they end by themselves, within fifteen minutes.
#[utoipa::path(
    post,
    path = "/v1/tokens/revoke",
    tag = "tokens",
    request_body = RefreshRequest,
    responses(
        (status = 204, description = "No such token is good any more, whether it was or not"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "`ledger_unavailable`"),
    )
)]
pub async fn revoke(
    State(app): State<App>,
    Json(request): Json<RefreshRequest>,
) -> Result<StatusCode, Problem> {
    if let Some(sent) = token::hash(&request.refresh_token) {
        app.ledger.revoke_refresh(sent).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}
