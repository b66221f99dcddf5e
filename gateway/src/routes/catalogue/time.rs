//! `GET /v1/time`

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, HeaderName};
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::app::App;
use crate::extract::Json;
use crate::time_text;

/// The server's time.
#[derive(Serialize, utoipa::ToSchema)]
pub struct TimeView {
    /// To the millisecond, in UTC.
    #[schema(format = DateTime)]
    now: String,
}

/// Read the server's clock, by which releases open
#[utoipa::path(get, path = "/v1/time", tag = "catalogue", responses((status = 200, body = TimeView)))]
pub async fn time(State(app): State<App>) -> ([(HeaderName, &'static str); 1], Json<TimeView>) {
    let now = time_text(app.clock.now(), &TimeZone::UTC);
    ([(CACHE_CONTROL, "no-store")], Json(TimeView { now }))
}
