//! `POST /v1/tokens`

use axum::extract::State;
use serde::Deserialize;

use super::{Issued, TokensView, issue};
use crate::app::App;
use crate::auth::seal::Column;
use crate::auth::{login, password, refresh};
use crate::extract::Json;
use crate::problem::{Code, Problem, ProblemBody};

/// Log-in name and password.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogInRequest {
    /// The log-in name; capitals do not matter.
    login: String,
    /// The password.
    #[schema(format = Password)]
    password: String,
}

/// Log in
#[utoipa::path(
    post,
    path = "/v1/tokens",
    tag = "tokens",
    request_body = LogInRequest,
    responses(
        (status = 201, body = TokensView, description = "Logged in"),
        (status = 400, body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json", description = "`invalid_credentials`"),
        (status = 429, body = ProblemBody, content_type = "application/problem+json", description = "`rate_limited`: too many log-ins under this name"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "`overloaded`, `ledger_unavailable`"),
    )
)]
pub async fn log_in(
    State(app): State<App>,
    Json(request): Json<LogInRequest>,
) -> Result<Issued, Problem> {
    // What can't be a password is not hashed: that takes long only for what might be one.
    if request.password.chars().count() > password::CHARS_MAX {
        return Err(Code::InvalidCredentials.into());
    }
    let login_hash = app.sealer.hash(Column::Login, &login::spell(&request.login));
    // Counted whether the name is known or not, so that this tells nothing of it.
    app.limits.admit_login(&login_hash)?;
    let found = app.ledger.find_credentials(login_hash).await?;
    let hash = found.as_ref().map(|found| found.password_hash.clone());
    let is_right = app.passwords.verify(request.password, hash).await?;
    let Some(found) = found.filter(|_| is_right) else {
        return Err(Code::InvalidCredentials.into());
    };
    let (token, token_hash) = refresh::mint().map_err(Problem::internal)?;
    app.ledger.start_refresh_family(found.account, token_hash, refresh::TTL_S).await?;
    issue(&app, found.account, found.role, &found.patients, token)
}
