//! `POST /v1/tokens/refresh`

use axum::extract::State;
use ledger::account::Rotated;

use super::{Issued, RefreshRequest, TokensView, issue};
use crate::app::App;
use crate::auth::refresh as token;
use crate::extract::Json;
use crate::problem::{Code, Problem, ProblemBody};

/// Exchange a refresh token for new tokens
///
/// Good once. If the answer is lost, log in again: sending the same token a second time ends
/// everything that descends from the log-in.
#[utoipa::path(
    post,
    path = "/v1/tokens/refresh",
    tag = "tokens",
    request_body = RefreshRequest,
    responses(
        (status = 201, body = TokensView, description = "Exchanged"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "`unauthorized`: unknown, used, expired or revoked"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "`ledger_unavailable`"),
    )
)]
pub async fn refresh(
    State(app): State<App>,
    Json(request): Json<RefreshRequest>,
) -> Result<Issued, Problem> {
    let Some(sent) = token::hash(&request.refresh_token) else {
        return Err(Code::Unauthorized.into());
    };
    let (next, next_hash) = token::mint().map_err(Problem::internal)?;
    match app.ledger.rotate_refresh(sent, next_hash, token::TTL_S).await? {
        Rotated::Done(holder) => issue(&app, holder.account, holder.role, &holder.patients, next),
        Rotated::Reused => {
            tracing::warn!("a used refresh token came again: its family has ended");
            Err(Code::Unauthorized.into())
        }
        Rotated::Unknown => Err(Code::Unauthorized.into()),
    }
}
