//! `GET /v1/bookings`: the account's bookings, latest first.

use std::time::Duration;

use axum::extract::State;
use serde::Deserialize;

use crate::app::App;
use crate::auth::Identity;
use crate::extract::{Json, Query};
use crate::page::{self, Page};
use crate::problem::{Code, Problem};
use crate::status::view::{self, BookingView};

/// Which page.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Where the page before said the next begins
    cursor: Option<String>,
    /// Items of a page (1 to 200)
    limit: Option<u16>,
}

const LIST_WAIT: Duration = Duration::from_millis(1_500);

/// List the account's bookings
///
/// Those with their final answer, latest first. What is queued or pending is followed by its id.
#[utoipa::path(
    get,
    path = "/v1/bookings",
    tag = "bookings",
    security(("token" = [])),
    params(Which),
    responses(
        (status = 200, description = "A page", body = Page<BookingView>),
    )
)]
pub(super) async fn list(
    State(app): State<App>,
    identity: Identity,
    Query(Which { cursor, limit }): Query<Which>,
) -> Result<Json<Page<BookingView>>, Problem> {
    let limit = page::limit(limit)?;
    let before = page::decode_id(cursor.as_deref())?;
    let ledger = app.ledger.clone();
    let asked = tokio::spawn(async move {
        ledger.bookings_of_account(identity.account, before, limit + 1).await
    });
    let rows = match tokio::time::timeout(LIST_WAIT, asked).await {
        Ok(Ok(rows)) => rows?,
        Ok(Err(_)) | Err(_) => return Err(Code::LedgerUnavailable.into()),
    };
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        let zone = view::zone(&app, &row.booking).await;
        items.push(view::of_row(&row, &zone));
    }
    Ok(Json(Page::of(items, limit, |item| item.id.clone(), |item| item)))
}
