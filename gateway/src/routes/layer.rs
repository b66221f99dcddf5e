//! What is done for every request: its name, its limits, its metrics.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::OwnedSemaphorePermit;

use crate::app::App;
use crate::problem::Problem;
use crate::request_id;
use crate::server::Peer;

/// A request's place among those worked on at once. Who only waits gives it up.
#[derive(Clone, Debug)]
pub struct Place(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Place {
    /// Gives the place up.
    pub fn give_up(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

pub(super) async fn around(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id::take_or_mint(request.headers());
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let answer = async {
        match pass(&app, request, next).await {
            Ok(response) => response,
            Err(problem) => problem.into_response(),
        }
    };
    let mut response = request_id::scope(id.clone(), answer).await;
    let seconds = started.elapsed().as_secs_f64();
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(request_id::HEADER, value);
    }
    let route = path.as_ref().map_or("none", MatchedPath::as_str).to_owned();
    let status = response.status().as_u16();
    tracing::debug!(request_id = id, %method, route, status, seconds, "answered");
    let route = ("route", route);
    // A client may invent methods; a label must not.
    let is_known = [Method::GET, Method::POST, Method::DELETE, Method::PUT].contains(&method);
    let method = ("method", if is_known { method.to_string() } else { "other".to_owned() });
    let labels = [route.clone(), method.clone(), ("status", status.to_string())];
    metrics::counter!("slotrush_requests_total", &labels).increment(1);
    metrics::histogram!("slotrush_answer_seconds", &[route, method]).record(seconds);
    response
}

async fn pass(app: &App, mut request: Request, next: Next) -> Result<Response, Problem> {
    if let Some(Peer(peer)) = request.extensions().get::<Peer>() {
        app.limits.admit_address(peer.ip(), request.headers())?;
    }
    let place = Place(Arc::new(Mutex::new(Some(app.limits.enter()?))));
    let _in_flight = InFlight::begin();
    request.extensions_mut().insert(place.clone());
    let response = next.run(request).await;
    place.give_up();
    Ok(response)
}

/// Counts a request while it is being answered, however that ends.
struct InFlight;

impl InFlight {
    fn begin() -> Self {
        metrics::gauge!("slotrush_requests_in_flight").increment(1);
        Self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        metrics::gauge!("slotrush_requests_in_flight").decrement(1);
    }
}
