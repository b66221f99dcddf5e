//! `GET /v1/bookings/{id}/events`: a booking's way to its end, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use booking::{AccountId, BookingId};
use futures::Stream;
use tokio::time::Instant;

use crate::app::App;
use crate::auth::Identity;
use crate::extract::PathId;
use crate::problem::Problem;
use crate::routes::Place;
use crate::status::view::{self, BookingView};
use crate::status::{self, Question};

/// How often the place in the queue is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A stream ends after this; a client that still waits connects again.
const STREAM_MAX: Duration = Duration::from_mins(10);
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Follow a booking
///
/// Sends an event `status` with the booking at once, whenever it changes, and last when it is final.
#[utoipa::path(
    get,
    path = "/v1/bookings/{id}/events",
    tag = "bookings",
    security(("token" = [])),
    params(("id" = String, Path, description = "The booking")),
    responses(
        (status = 200, description = "Events named `status`; their data is the booking as JSON",
            body = BookingView, content_type = "text/event-stream"),
    )
)]
pub(super) async fn events(
    State(app): State<App>,
    identity: Identity,
    PathId(id): PathId<BookingId>,
    Extension(place): Extension<Place>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let question = Question::new(id, identity.account);
    let known = status::find(&app, question).await;
    let first = view::show(&app, known, question.asked_at).await?;
    place.give_up();
    let following = Following {
        app,
        id,
        account: identity.account,
        next: Some(first.clone()),
        last: first,
        ends_at: Instant::now() + STREAM_MAX,
    };
    let events = futures::stream::unfold(following, Following::step);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

struct Following {
    app: App,
    id: BookingId,
    account: AccountId,
    /// To be sent at once.
    next: Option<BookingView>,
    last: BookingView,
    ends_at: Instant,
}

impl Following {
    async fn step(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        let view = match self.next.take() {
            Some(first) => first,
            None => self.change().await?,
        };
        self.last = view;
        let json = serde_json::to_string(&self.last).unwrap_or_default();
        Some((Ok(Event::default().event("status").data(json)), self))
    }

    /// Waits for the next change; `None` when the stream is to end.
    async fn change(&self) -> Option<BookingView> {
        while !self.last.status.is_final() {
            if Instant::now() >= self.ends_at || self.app.shutdown.is_cancelled() {
                return None;
            }
            let question = Question::new(self.id, self.account);
            let known = status::find(&self.app, question).await;
            let until = Instant::now() + LOOK_EVERY;
            let known = status::wait(&self.app, question, until, known).await;
            // Not to be told now: the keep-alive goes on, and so does the look.
            let Ok(view) = view::show(&self.app, known, question.asked_at).await else {
                tokio::time::sleep_until(until).await;
                continue;
            };
            if view != self.last {
                return Some(view);
            }
            tokio::time::sleep_until(until).await;
        }
        None
    }
}
