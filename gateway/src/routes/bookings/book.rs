//! `POST /v1/bookings`: ask for a place.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::LOCATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use booking::{Digest, PatientId, SlotId};
use serde::Deserialize;

use crate::admission::refusals::Refusal;
use crate::admission::{Admitted, Wish, admit};
use crate::app::App;
use crate::auth::Identity;
use crate::extract::{Json, json_body};
use crate::limits::Allowance;
use crate::problem::{Code, Problem};
use crate::status::view::{self, BookingView};

/// How long a refusal waits to learn the hospital's time zone.
const ZONE_WAIT: Duration = Duration::from_millis(500);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A wish for a place.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBooking {
    /// The slot.
    #[schema(value_type = String, example = "19713")]
    slot_id: SlotId,
    /// The person to be seen: a patient of the account.
    #[schema(value_type = String, example = "8")]
    patient_id: PatientId,
}

/// Who asks, within the account's rate.
pub(super) struct Booker {
    identity: Identity,
    allowance: Option<Allowance>,
}

impl FromRequestParts<App> for Booker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let identity = Identity::from_request_parts(parts, app).await?;
        let allowance = app.limits.admit_account(identity.account)?;
        Ok(Self { identity, allowance })
    }
}

/// Ask for a place
///
/// Repeat the request with the same `Idempotency-Key` until it is answered: it books once. `queued`
/// is a promise; `pending` is not yet one: follow the booking.
#[utoipa::path(
    post,
    path = "/v1/bookings",
    tag = "bookings",
    security(("token" = [])),
    params(("Idempotency-Key" = String, Header, description = "1 to 64 visible ASCII characters",
        min_length = 1, max_length = 64)),
    request_body = NewBooking,
    responses(
        (status = 202, description = "Accepted", body = BookingView,
            headers(("Location", description = "The booking"),
                ("Retry-After", description = "Seconds until it is likely settled: ask again then"))),
        (status = 200, description = "The same request came before and has its answer", body = BookingView),
    )
)]
pub(super) fn book(
    State(app): State<App>,
    booker: Booker,
    request: Request,
) -> impl Future<Output = Response> + Send {
    // Read here and let go: a future that is handed the request has room for it in each of its parts.
    let sent = Sent::read(request);
    async move {
        let answer = answer(&app, &booker.identity, sent).await;
        let mut response = answer.unwrap_or_else(IntoResponse::into_response);
        if let Some(allowance) = booker.allowance {
            allowance.write(response.headers_mut());
        }
        response
    }
}

/// What a request brings.
struct Sent {
    key: Digest,
    body: Body,
}

impl Sent {
    /// What is wrong is in a box: few are, and all would carry room for it.
    fn read(request: Request) -> Result<Self, Box<Problem>> {
        let key = Digest::of_key(idempotency_key(request.headers())?);
        Ok(Self { key, body: json_body(request)? })
    }
}

async fn answer(
    app: &App,
    identity: &Identity,
    sent: Result<Sent, Box<Problem>>,
) -> Result<Response, Problem> {
    let Sent { key, body } = sent.map_err(|problem| *problem)?;
    let Json(NewBooking { slot_id, patient_id }) = Json::read(body).await?;
    app.limits.admit_session(slot_id.session())?;
    if !app.patients.acts_for(identity, patient_id).await? {
        return Err(Code::NotFound.into());
    }
    let wish = Wish::new(identity.account, slot_id, patient_id, key);
    write(app, &wish, admit(app, &wish).await).await
}

fn idempotency_key(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut values = headers.get_all(&IDEMPOTENCY_KEY).iter();
    let value = values.next().ok_or(Problem::new(Code::IdempotencyKeyMissing))?;
    let is_good = |text: &&str| {
        (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let text = value.to_str().ok().filter(is_good).filter(|_| values.next().is_none());
    text.ok_or_else(|| Code::IdempotencyKeyMalformed.into())
}

/// Turns what came of the wish into the answer.
async fn write(app: &App, wish: &Wish, outcome: Admitted) -> Result<Response, Problem> {
    let code = match outcome {
        Admitted::Accepted(accepted) => {
            let mut response = view::waiting(app, &accepted, wish.asked_at).await;
            *response.status_mut() = StatusCode::ACCEPTED;
            let location = format!("/v1/bookings/{}", accepted.booking.id);
            if let Ok(location) = HeaderValue::from_str(&location) {
                response.headers_mut().insert(LOCATION, location);
            }
            return Ok(response);
        }
        Admitted::Final(row) => {
            let zone = view::zone(app, &row.booking).await;
            return Ok(Json(view::of_row(&row, &zone)).into_response());
        }
        Admitted::Refused(refusal) => return Err(refused(app, wish, refusal).await),
        Admitted::LimitReached(limit) => {
            return Err(Problem::new(Code::LimitReached).with_limit(limit));
        }
        Admitted::KeyReused => Code::IdempotencyKeyReused,
        Admitted::AlreadyBooked => Code::AlreadyBooked,
        Admitted::Overloaded => Code::Overloaded,
        Admitted::Recovering => Code::QuotaRecovering,
        Admitted::InventoryDown => Code::InventoryUnavailable,
        Admitted::BrokerDown => Code::BrokerUnavailable,
        Admitted::LedgerDown => Code::LedgerUnavailable,
    };
    Err(code.into())
}

async fn refused(app: &App, wish: &Wish, refusal: Refusal) -> Problem {
    match refusal {
        Refusal::SoldOut => Code::SlotExhausted.into(),
        Refusal::NotOpen { opens_at } => {
            let problem = Problem::new(Code::ReleaseNotOpen);
            // In the hospital's time, or not at all: people read it as they find it.
            match app.facts.zone(wish.slot.session(), ZONE_WAIT).await {
                Some(zone) => problem.with_opens_at(opens_at, &zone),
                None => problem.with_detail("when it opens can not be told right now"),
            }
        }
        Refusal::Paused => Code::ReleasePaused.into(),
        Refusal::Closed => Code::ReleaseClosed.into(),
        Refusal::Begun => Code::SlotBegun.into(),
        Refusal::NotPreheated => Code::NotPreheated.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_1_to_64_visible_characters_and_there_is_one() {
        let key = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
                headers.append("idempotency-key", value);
            }
            idempotency_key(&headers).map(str::to_owned).map_err(|problem| problem.code())
        };
        assert_eq!(key(&["a~!"]), Ok("a~!".to_owned()));
        assert_eq!(key(&[]), Err(Code::IdempotencyKeyMissing));
        for bad in [&[""][..], &["a b"], &["é"], &["a", "b"], &[&"x".repeat(65)]] {
            assert_eq!(key(bad), Err(Code::IdempotencyKeyMalformed), "{bad:?}");
        }
    }
}
