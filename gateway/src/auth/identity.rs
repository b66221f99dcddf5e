//! Who sent a request, as an extractor.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use booking::{AccountId, PatientId};
use smallvec::SmallVec;

use super::Role;
use crate::app::App;
use crate::problem::{Code, Problem};

const PATIENTS_MAX: usize = ledger::patient::PATIENTS_PER_ACCOUNT_MAX.unsigned_abs() as usize;

/// Patients of one account. As many as it may have are kept in place: to follow a pointer for each request is to
/// wait for memory.
pub type OwnPatients = SmallVec<[PatientId; PATIENTS_MAX]>;

/// Who sent a request, proven by its access token. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The account.
    pub account: AccountId,
    /// What it may do.
    pub role: Role,
    /// The patients the token names. The account may have got others since.
    pub patients: OwnPatients,
}

impl FromRequestParts<App> for Identity {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all(AUTHORIZATION).iter();
        // Two of them is a trick, not a token.
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(Code::Unauthorized.into());
        };
        let token = value.to_str().ok().and_then(bearer);
        token.and_then(|token| app.tokens.verify(token)).ok_or_else(|| Code::Unauthorized.into())
    }
}

/// An admin's account. Others are refused, before the body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admin(pub AccountId);

impl FromRequestParts<App> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let identity = Identity::from_request_parts(parts, app).await?;
        match identity.role {
            Role::Admin => Ok(Self(identity.account)),
            Role::Patient | Role::Doctor => Err(Code::Forbidden.into()),
        }
    }
}

/// Takes the token out of the header's value; the scheme's case does not matter.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}
