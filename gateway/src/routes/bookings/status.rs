//! `GET /v1/bookings/{id}`: what became of a booking, now or as soon as it is final.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use booking::BookingId;
use serde::Deserialize;
use tokio::time::Instant;

use crate::app::App;
use crate::auth::Identity;
use crate::extract::{PathId, Query};
use crate::problem::{Code, Problem};
use crate::routes::Place;
use crate::status::view::{self, BookingView};
use crate::status::{self, Known, Question};

/// How long to wait.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wait {
    /// Seconds to wait for the final answer (0 to 20)
    #[serde(default)]
    #[param(minimum = 0, maximum = 20)]
    wait: u8,
}

const WAIT_S_MAX: u8 = 20;

/// See what became of a booking
///
/// With `wait`, answers as soon as the booking is final, or after so many seconds. While it is not, `Retry-After`
/// tells when it is likely to be: by its place in the queue and how fast that moves.
#[utoipa::path(
    get,
    path = "/v1/bookings/{id}",
    tag = "bookings",
    security(("token" = [])),
    params(("id" = String, Path, description = "The booking"), Wait),
    responses(
        (status = 200, description = "The booking", body = BookingView,
            headers(("Retry-After", description = "Seconds until to ask again; absent when it is final"))),
    )
)]
pub(super) async fn status(
    State(app): State<App>,
    identity: Identity,
    PathId(id): PathId<BookingId>,
    Query(Wait { wait }): Query<Wait>,
    Extension(place): Extension<Place>,
) -> Result<Response, Problem> {
    if wait > WAIT_S_MAX {
        return Err(Problem::new(Code::InvalidField).with_field("?wait", "0 to 20"));
    }
    let question = Question::new(id, identity.account);
    let certain = if wait > 0 { status::certain_here(&app, question) } else { None };
    let mut known = match certain {
        Some(known) => known,
        None => status::find(&app, question).await,
    };
    if wait > 0 && matches!(known, Known::Accepted(_)) {
        let until = Instant::now() + Duration::from_secs(wait.into());
        place.give_up();
        known = Box::pin(status::wait(&app, question, until, known)).await;
    }
    view::write(&app, known, question.asked_at).await
}
