//! `/v1/admin/parked`: messages set aside for a person.

use axum::extract::State;
use axum::http::StatusCode;
use booking::{BookingId, Epoch, ParkedId, Partition, SlotId};
use jiff::tz::TimeZone;
use ledger::parked::{ParkedRow, Replayed};
use ledger::persist::Outcome;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::auth::Admin;
use crate::extract::{Json, PathId, Query};
use crate::page::{self, Page};
use crate::problem::{Code, Problem, ProblemBody};
use crate::time_text;

/// Returns the routes of parked messages.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(list_parked))
        .routes(routes!(replay_parked))
        .routes(routes!(discard_parked))
}

/// Which parked messages.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ParkedQuery {
    /// Where the page begins.
    cursor: Option<String>,
    /// Most items, 1 to 200; 50 if not said.
    limit: Option<u16>,
}

/// A parked message.
#[derive(Serialize, utoipa::ToSchema)]
pub struct ParkedView {
    #[schema(value_type = String)]
    id: ParkedId,
    #[schema(value_type = u8)]
    partition: Partition,
    /// Absent if not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    epoch: Option<Epoch>,
    /// Absent if not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    booking_id: Option<BookingId>,
    /// Absent if not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    slot_id: Option<SlotId>,
    /// A stable word.
    reason: String,
    detail: String,
    /// Whether it can be replayed; if not, it can only be discarded.
    replayable: bool,
    #[schema(format = DateTime)]
    parked_at: String,
}

/// What became of a replayed booking.
#[derive(Serialize, utoipa::ToSchema)]
pub struct ReplayedView {
    /// `booked`, `cancelled` or `rejected`.
    outcome: &'static str,
    /// Why, if rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Its number in the slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u32>,
}

/// List parked messages, latest first
#[utoipa::path(
    get,
    path = "/v1/admin/parked",
    tag = "admin",
    security(("token" = [])),
    params(ParkedQuery),
    responses(
        (status = 200, body = Page<ParkedView>),
        (status = 403, body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub async fn list_parked(
    State(app): State<App>,
    _admin: Admin,
    Query(query): Query<ParkedQuery>,
) -> Result<Json<Page<ParkedView>>, Problem> {
    let limit = page::limit(query.limit)?;
    let before = page::decode_id(query.cursor.as_deref())?;
    let rows = app.ledger.parked(before, limit + 1).await?;
    Ok(Json(Page::of(rows, limit, |row: &ParkedRow| row.id.to_string(), ParkedView::from)))
}

/// Persist a parked booking
#[utoipa::path(
    post,
    path = "/v1/admin/parked/{id}/replay",
    tag = "admin",
    security(("token" = [])),
    params(("id" = String, Path, description = "The parked message")),
    responses(
        (status = 200, body = ReplayedView),
        (status = 403, body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`conflict`: still refused, or not readable"),
    )
)]
pub async fn replay_parked(
    State(app): State<App>,
    Admin(actor): Admin,
    PathId(id): PathId<ParkedId>,
) -> Result<Json<ReplayedView>, Problem> {
    app.ledger.note(actor, "replay", "parked", id.get()).await?;
    let still = |why: String| Problem::new(Code::Conflict).with_detail(why);
    let replayed = app.ledger.replay_parked(id).await?;
    failpoint::point!("gateway.parked_replayed");
    match replayed {
        Replayed::Done(Outcome::Row { state, reason, number }) => Ok(Json(ReplayedView {
            outcome: state.as_str(),
            reason: reason.map(booking::Reason::as_str),
            number,
        })),
        Replayed::Done(Outcome::IdConflict) => Err(still("id_conflict".to_owned())),
        Replayed::Done(Outcome::UnknownAllotment) => Err(still("unknown_allotment".to_owned())),
        Replayed::StillRefused(why) => Err(still(why)),
        Replayed::NotReplayable => Err(still("not a readable booking".to_owned())),
        Replayed::NotFound => Err(Code::NotFound.into()),
    }
}

/// Discard a parked message that can't be replayed
#[utoipa::path(
    post,
    path = "/v1/admin/parked/{id}/discard",
    tag = "admin",
    security(("token" = [])),
    params(("id" = String, Path, description = "The parked message")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 403, body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json", description = "No such message, or one that can be replayed"),
    )
)]
pub async fn discard_parked(
    State(app): State<App>,
    Admin(actor): Admin,
    PathId(id): PathId<ParkedId>,
) -> Result<StatusCode, Problem> {
    app.ledger.note(actor, "discard", "parked", id.get()).await?;
    if app.ledger.discard_parked(id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Code::NotFound.into())
    }
}

impl From<ParkedRow> for ParkedView {
    fn from(row: ParkedRow) -> Self {
        Self {
            id: row.id,
            partition: row.partition,
            epoch: row.epoch,
            booking_id: row.booking,
            slot_id: row.slot,
            reason: row.reason,
            detail: row.detail,
            replayable: row.replayable,
            parked_at: time_text(row.parked_at, &TimeZone::UTC),
        }
    }
}
