//! Metrics of what happens with every request or booking, each looked up in the registry only once.
//!
//! To look a metric up, the registry hashes its name and labels, which are strings made for that: for
//! most requests that would be a large part of their cost. Series appear when they are first counted.

use std::sync::OnceLock;
use std::time::Duration;

use ahash::HashMap;
use axum::http::{Method, StatusCode};
use metrics::{Counter, Gauge, Histogram};

/// Methods with a label of their own. A client may invent others; a label must not.
const METHODS: [Method; 4] = [Method::GET, Method::POST, Method::DELETE, Method::PUT];
/// Statuses whose counters are kept; others are looked up each time.
const STATUSES: [u16; 17] =
    [200, 409, 202, 404, 429, 503, 201, 204, 400, 401, 403, 405, 408, 413, 415, 422, 500];

/// Requests and their answers.
#[derive(Debug)]
pub struct Requests {
    routes: HashMap<String, Route>,
    /// Paths that lead nowhere.
    none: Route,
    in_flight: OnceLock<Gauge>,
}

#[derive(Debug)]
struct Route {
    path: String,
    /// In the order of [`METHODS`], and the others.
    methods: [Answers; METHODS.len() + 1],
}

#[derive(Debug, Default)]
struct Answers {
    seconds: OnceLock<Histogram>,
    /// In the order of [`STATUSES`].
    counts: [OnceLock<Counter>; STATUSES.len()],
}

impl Requests {
    /// Starts with the paths of all routes.
    pub fn new(paths: impl IntoIterator<Item = String>) -> Self {
        let routes = paths.into_iter().map(|path| (path.clone(), Route::new(path))).collect();
        Self { routes, none: Route::new("none".to_owned()), in_flight: OnceLock::new() }
    }

    /// Returns the gauge of requests that are being answered.
    pub fn in_flight(&self) -> &Gauge {
        self.in_flight.get_or_init(|| metrics::gauge!("slotrush_requests_in_flight"))
    }

    /// Counts an answer to a request of this route.
    pub fn note(&self, path: Option<&str>, method: &Method, status: StatusCode, seconds: f64) {
        let route = path.and_then(|path| self.routes.get(path)).unwrap_or(&self.none);
        let at = METHODS.iter().position(|known| known == method).unwrap_or(METHODS.len());
        let answers = &route.methods[at];
        let method = METHODS.get(at).map_or("other", Method::as_str);
        let status = status.as_u16();
        match STATUSES.iter().position(|known| *known == status) {
            Some(at) => {
                answers.counts[at].get_or_init(|| route.counter(method, status)).increment(1);
            }
            None => route.counter(method, status).increment(1),
        }
        answers.seconds.get_or_init(|| route.histogram(method)).record(seconds);
    }
}

impl Route {
    fn new(path: String) -> Self {
        Self { path, methods: std::array::from_fn(|_| Answers::default()) }
    }

    fn counter(&self, method: &'static str, status: u16) -> Counter {
        let (route, status) = (self.path.clone(), status.to_string());
        metrics::counter!(
            "slotrush_requests_total", "route" => route, "method" => method, "status" => status
        )
    }

    fn histogram(&self, method: &'static str) -> Histogram {
        let route = self.path.clone();
        metrics::histogram!("slotrush_answer_seconds", "route" => route, "method" => method)
    }
}

/// How long the two waits of an accepted booking take.
#[derive(Debug, Default)]
pub struct Waits {
    hold: OnceLock<Histogram>,
    publish: OnceLock<Histogram>,
}

impl Waits {
    /// Notes how long Redis took over a hold.
    pub fn note_hold(&self, took: Duration) {
        let histogram = self.hold.get_or_init(|| metrics::histogram!("slotrush_hold_seconds"));
        histogram.record(took);
    }

    /// Notes how long a booking took to be confirmed and certified, or not to be.
    pub fn note_publish(&self, took: Duration) {
        let histogram =
            self.publish.get_or_init(|| metrics::histogram!("slotrush_publish_seconds"));
        histogram.record(took);
    }
}

/// A counter whose series are told apart by one word.
#[derive(Debug)]
pub struct ByWord<const N: usize> {
    register: fn(&'static str) -> Counter,
    words: [(&'static str, OnceLock<Counter>); N],
}

impl<const N: usize> ByWord<N> {
    /// Counts these words; others are looked up each time.
    pub fn new(words: [&'static str; N], register: fn(&'static str) -> Counter) -> Self {
        Self { register, words: words.map(|word| (word, OnceLock::new())) }
    }

    /// Counts one.
    pub fn note(&self, word: &'static str) {
        match self.words.iter().find(|(known, _)| *known == word) {
            Some((_, counter)) => counter.get_or_init(|| (self.register)(word)).increment(1),
            None => (self.register)(word).increment(1),
        }
    }
}
