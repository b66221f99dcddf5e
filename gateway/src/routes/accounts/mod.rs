//! `/v1/accounts`: making an account.

pub mod register;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::fields::Fields;

/// Returns the routes of accounts.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(register::register))
}

/// Returns the one spelling of a log-in name.
pub fn spell_login(login: &str) -> String {
    login.to_ascii_lowercase()
}

/// Checks a log-in name: 3 to 64 of letters, digits and `._@+-`, in ASCII.
pub fn check_login(login: &str, fields: &mut Fields) {
    let is_good = (3..=64).contains(&login.len())
        && login.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@+-".contains(&b));
    fields.check(is_good, "/login", "3 to 64 ASCII letters, digits and ._@+-");
}
