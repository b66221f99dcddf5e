//! `/v1/tokens`: logging in, staying so, logging out.

pub mod log_in;
pub mod refresh;
pub mod revoke;

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, HeaderName};
use booking::{AccountId, PatientId};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::auth::{Role, refresh as refresh_token, token};
use crate::extract::Json;
use crate::problem::Problem;

/// Returns the routes of tokens.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(log_in::log_in))
        .routes(routes!(refresh::refresh))
        .routes(routes!(revoke::revoke))
}

/// A refresh token, sent back.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshRequest {
    /// As it was given.
    refresh_token: String,
}

/// What a client needs to act for an account.
#[derive(Serialize, utoipa::ToSchema)]
pub struct TokensView {
    /// Goes in `Authorization: Bearer …`.
    access_token: String,
    /// Always `Bearer`.
    token_type: &'static str,
    /// Seconds until the access token ends.
    expires_in: i64,
    /// Good for one exchange. Sent twice, everything that descends from the log-in ends.
    refresh_token: String,
    /// Seconds until the refresh token ends.
    refresh_expires_in: i32,
}

/// An answer with tokens, which nobody on the way may keep.
type Issued = (StatusCode, [(HeaderName, &'static str); 1], Json<TokensView>);

fn issue(
    app: &App,
    account: AccountId,
    role: Role,
    patients: &[PatientId],
    refresh_token: String,
) -> Result<Issued, Problem> {
    let view = TokensView {
        access_token: app.tokens.issue(account, role, patients, app.clock.now())?,
        token_type: "Bearer",
        expires_in: token::TTL_S,
        refresh_token,
        refresh_expires_in: refresh_token::TTL_S,
    };
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(view)))
}
