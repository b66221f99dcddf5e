//! `POST /v1/accounts`

use axum::extract::State;
use axum::http::StatusCode;
use booking::AccountId;
use ledger::account::Registered;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::auth::{Role, login};
use crate::extract::Json;
use crate::problem::{Code, Problem, ProblemBody};

/// An account to be made.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountRequest {
    /// 3 to 64 ASCII letters, digits and `._@+-`; capitals do not matter.
    #[schema(min_length = 3, max_length = 64)]
    login: String,
    /// 8 to 128 characters.
    #[schema(min_length = 8, max_length = 128, format = Password)]
    password: String,
}

/// An account that was made.
#[derive(Serialize, utoipa::ToSchema)]
pub struct AccountView {
    /// Its id.
    #[schema(value_type = String)]
    id: AccountId,
}

/// Make an account
#[utoipa::path(
    post,
    path = "/v1/accounts",
    tag = "accounts",
    request_body = AccountRequest,
    responses(
        (status = 201, body = AccountView, description = "The account was made"),
        (status = 400, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`login_taken`"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "`overloaded`, `ledger_unavailable`"),
    )
)]
pub async fn register(
    State(app): State<App>,
    Json(request): Json<AccountRequest>,
) -> Result<(StatusCode, Json<AccountView>), Problem> {
    let AccountRequest { login: name, password } = request;
    let new = login::prepare(&app.sealer, &app.passwords, &name, password, Role::Patient).await?;
    match app.ledger.create_account(None, new).await? {
        Registered::Done(id) => Ok((StatusCode::CREATED, Json(AccountView { id }))),
        Registered::LoginTaken => Err(Code::LoginTaken.into()),
    }
}
