//! What is done for every request: its name, its limits, its metrics.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::OwnedSemaphorePermit;

use crate::limits::Limits;
use crate::problem::Problem;
use crate::request_id;
use crate::server::Peer;
use crate::tally::Requests;

/// A request's place among those worked on at once. Who only waits gives it up.
#[derive(Clone, Debug)]
pub struct Place(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Place {
    /// Gives the place up.
    pub fn give_up(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// What every request needs. Cheap to clone.
#[derive(Clone)]
struct Around(Arc<(Arc<Limits>, Requests)>);

/// Does what is done for every request. `paths` are those of all routes.
pub fn around<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    limits: Arc<Limits>,
    paths: impl IntoIterator<Item = String>,
) -> Router<S> {
    let around = Around(Arc::new((limits, Requests::new(paths))));
    router.layer(axum::middleware::from_fn_with_state(around, answer))
}

async fn answer(State(around): State<Around>, request: Request, next: Next) -> Response {
    let (limits, requests) = &*around.0;
    let started = Instant::now();
    let id = request_id::take_or_mint(request.headers());
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let answer = async {
        match pass(limits, requests, request, next).await {
            Ok(response) => response,
            Err(problem) => problem.into_response(),
        }
    };
    let mut response = request_id::scope(id.clone(), answer).await;
    let seconds = started.elapsed().as_secs_f64();
    response.headers_mut().insert(request_id::HEADER, id.as_header());
    let path = path.as_ref().map(MatchedPath::as_str);
    let status = response.status();
    let (route, code) = (path.unwrap_or("none"), status.as_u16());
    tracing::debug!(request_id = %id, %method, route, status = code, seconds, "answered");
    requests.note(path, &method, status, seconds);
    response
}

async fn pass(
    limits: &Limits,
    requests: &Requests,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if let Some(Peer(peer)) = request.extensions().get::<Peer>() {
        limits.admit_address(peer.ip(), request.headers())?;
    }
    let place = Place(Arc::new(Mutex::new(Some(limits.enter()?))));
    let _in_flight = InFlight::begin(requests);
    request.extensions_mut().insert(place.clone());
    let response = next.run(request).await;
    place.give_up();
    Ok(response)
}

/// Counts a request while it is being answered, however that ends.
struct InFlight<'a>(&'a Requests);

impl<'a> InFlight<'a> {
    fn begin(requests: &'a Requests) -> Self {
        requests.in_flight().increment(1);
        Self(requests)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight().decrement(1);
    }
}
