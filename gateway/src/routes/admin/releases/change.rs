//! `POST /v1/admin/releases/{id}/preheat`, `…/pause`, `…/resume`, `…/close`
//!
//! Each is safe to repeat: asking for what already holds changes nothing.

use axum::extract::State;
use booking::{AccountId, ReleaseId};
use futures::future::join_all;
use inventory::Window;
use ledger::release::{Release, ReleaseChanged, ReleaseState, ReleaseVerb};

use super::view::{self, ReleaseView};
use crate::app::App;
use crate::auth::Admin;
use crate::extract::{Json, PathId};
use crate::problem::{Code, Problem, ProblemBody};

/// Set a release's places aside for sale
#[utoipa::path(
    post,
    path = "/v1/admin/releases/{id}/preheat",
    tag = "admin",
    security(("token" = [])),
    params(("id" = String, Path, description = "The release")),
    responses(
        (status = 200, body = ReleaseView),
        (status = 403, body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`release_state`: closed, or its time is over"),
    )
)]
pub async fn preheat_release(
    State(app): State<App>,
    Admin(actor): Admin,
    PathId(id): PathId<ReleaseId>,
) -> Result<Json<ReleaseView>, Problem> {
    change(&app, actor, id, ReleaseVerb::Preheat).await
}

/// Hold a release up
#[utoipa::path(
    post,
    path = "/v1/admin/releases/{id}/pause",
    tag = "admin",
    security(("token" = [])),
    params(("id" = String, Path, description = "The release")),
    responses(
        (status = 200, body = ReleaseView),
        (status = 403, body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`release_state`: closed"),
    )
)]
pub async fn pause_release(
    State(app): State<App>,
    Admin(actor): Admin,
    PathId(id): PathId<ReleaseId>,
) -> Result<Json<ReleaseView>, Problem> {
    change(&app, actor, id, ReleaseVerb::Pause).await
}

/// Let a release go on
#[utoipa::path(
    post,
    path = "/v1/admin/releases/{id}/resume",
    tag = "admin",
    security(("token" = [])),
    params(("id" = String, Path, description = "The release")),
    responses(
        (status = 200, body = ReleaseView),
        (status = 403, body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`release_state`: closed"),
    )
)]
pub async fn resume_release(
    State(app): State<App>,
    Admin(actor): Admin,
    PathId(id): PathId<ReleaseId>,
) -> Result<Json<ReleaseView>, Problem> {
    change(&app, actor, id, ReleaseVerb::Resume).await
}

/// End a release for good
///
/// What was sold stays sold; what was not comes back.
#[utoipa::path(
    post,
    path = "/v1/admin/releases/{id}/close",
    tag = "admin",
    security(("token" = [])),
    params(("id" = String, Path, description = "The release")),
    responses(
        (status = 200, body = ReleaseView),
        (status = 403, body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub async fn close_release(
    State(app): State<App>,
    Admin(actor): Admin,
    PathId(id): PathId<ReleaseId>,
) -> Result<Json<ReleaseView>, Problem> {
    change(&app, actor, id, ReleaseVerb::Close).await
}

async fn change(
    app: &App,
    actor: AccountId,
    id: ReleaseId,
    verb: ReleaseVerb,
) -> Result<Json<ReleaseView>, Problem> {
    match app.ledger.change_release(actor, id, verb).await? {
        ReleaseChanged::Done => {}
        ReleaseChanged::NoRelease => return Err(Code::NotFound.into()),
        ReleaseChanged::WrongState => return Err(Code::ReleaseState.into()),
    }
    let (release, view) = view::find(app, id).await?.ok_or(Code::NotFound)?;
    tell_redis(app, &release).await;
    forget_refusals(app, id).await;
    Ok(Json(view))
}

/// Drops what this gateway remembers of the release's slots: a refusal from before a resume must not
/// be the answer to the next request. Other gateways' memory ends by itself, within half a second.
async fn forget_refusals(app: &App, id: ReleaseId) {
    match app.ledger.slots_of_release(id).await {
        Ok(slots) => slots.into_iter().for_each(|slot| app.memory.refusals.forget(slot)),
        Err(error) => tracing::warn!(%error, "refusals of a release were not forgotten"),
    }
}

/// Tells every partition the release's window now, so that a pause holds from this moment on.
/// What fails here, the reconciler repeats.
async fn tell_redis(app: &App, release: &Release) {
    if !app.inventory.is_up() {
        return;
    }
    let window = Window {
        opens_at: release.opens_at,
        // A release that was closed early has ended by now.
        closes_at: match release.state {
            ReleaseState::Closed => release.closes_at.min(app.clock.now()),
            ReleaseState::Planned | ReleaseState::Preheated => release.closes_at,
        },
        paused: release.paused,
        version: release.version,
    };
    let told = app.partitions.all().map(|partition| async move {
        if let Err(error) = app.inventory.set_window(partition, release.id, window).await {
            tracing::warn!(%error, %partition, "a release's window was not told to Redis");
        }
    });
    join_all(told).await;
}
