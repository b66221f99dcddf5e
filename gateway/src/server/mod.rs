//! The door: accepting connections, deadlines on what comes in, and the way out.
//!
//! axum's own `serve` has no deadline for headers and no cap on connections, so this loop is ours.
//! Everything is bounded: connections, the size and time of headers and bodies, idle time, and the
//! time a graceful stop may take.

pub mod body;
mod head;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONNECTION, HeaderValue, TRANSFER_ENCODING};
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use service::settings::Invalid;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use self::body::{Deadlines, TimedBody};
use self::head::{HeadDeadline, Phase};

/// Bounds of the door.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "server")]
#[command(next_help_heading = "Connections")]
pub struct Settings {
    /// Open connections at most; further ones are answered 503 and closed
    #[arg(long, env = "SLOTRUSH_CONNECTIONS_MAX", default_value_t = 20_000)]
    pub connections_max: usize,
    /// Connections waiting to be accepted, at most
    #[arg(long, env = "SLOTRUSH_BACKLOG", default_value_t = 8_192)]
    pub backlog: u32,
    /// How long the head of a request may take (ms)
    #[arg(long, env = "SLOTRUSH_HEAD_TIMEOUT_MS", default_value_t = 5_000)]
    pub head_timeout_ms: u64,
    /// How long a connection may stand idle between requests (ms)
    #[arg(long, env = "SLOTRUSH_IDLE_TIMEOUT_MS", default_value_t = 30_000)]
    pub idle_timeout_ms: u64,
    /// How long a body may stall between two parts (ms)
    #[arg(long, env = "SLOTRUSH_BODY_STALL_TIMEOUT_MS", default_value_t = 3_000)]
    pub body_stall_timeout_ms: u64,
    /// How long a body may take over all (ms)
    #[arg(long, env = "SLOTRUSH_BODY_TIMEOUT_MS", default_value_t = 10_000)]
    pub body_timeout_ms: u64,
    /// How long a graceful stop waits for requests in flight (ms)
    #[arg(long, env = "SLOTRUSH_DRAIN_TIMEOUT_MS", default_value_t = 10_000)]
    pub drain_timeout_ms: u64,
}

/// The other end of the connection a request came over.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// Files besides the connections of patients: those of the three servers, logs, the operator's port.
const OTHER_FILES: u64 = 256;
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// What a connection over the cap is told.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
content-type: application/problem+json\r\ncontent-length: 96\r\n\r\n\
{\"type\":\"about:blank\",\"title\":\"Too many connections right now\",\"status\":503,\
\"code\":\"overloaded\"}";

/// Lets this process hold as many connections as it is to, or warns that it can't.
pub fn make_room(connections_max: usize) {
    let allowed = service::open_files::raise_limit();
    let needed = u64::try_from(connections_max).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    if allowed < needed {
        tracing::warn!(
            allowed,
            needed,
            "SLOTRUSH_CONNECTIONS_MAX is more than the hard limit of open files (ulimit -Hn) allows"
        );
    }
}

/// Opens the port of the API.
pub fn listen(address: SocketAddr, backlog: u32) -> Result<TcpListener, Invalid> {
    bind(address, backlog).map_err(|error| {
        Invalid::new("SLOTRUSH_LISTEN", format!("cannot listen on {address}: {error}"))
    })
}

fn bind(address: SocketAddr, backlog: u32) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

/// Serves until shutdown, then drains: requests in flight are finished, within the deadline.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    settings: &Settings,
    shutdown: CancellationToken,
) {
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    let door = Arc::new(Door {
        router,
        deadlines: Deadlines {
            per_read: Duration::from_millis(settings.body_stall_timeout_ms),
            total: Duration::from_millis(settings.body_timeout_ms),
        },
        head_timeout: Duration::from_millis(settings.head_timeout_ms),
        idle_timeout: Duration::from_millis(settings.idle_timeout_ms),
        shutdown: shutdown.clone(),
    });
    let places = Arc::new(Semaphore::new(settings.connections_max));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    metrics::counter!("slotrush_connections_refused_total").increment(1);
                    // Best effort: whoever does not read it sees a closed connection.
                    let _ = stream.try_write(FULL);
                    continue;
                };
                connections.spawn(door.clone().hold(stream, peer, place, cut.clone()));
            }
            Err(error) => {
                // Out of file descriptors, most likely. Spinning would not free one.
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drop(listener);
    connections.close();
    let drain = Duration::from_millis(settings.drain_timeout_ms);
    if tokio::time::timeout(drain, connections.wait()).await.is_err() {
        tracing::warn!(left = connections.len(), "cutting connections that did not finish in time");
        cut.cancel();
        connections.wait().await;
    }
}

struct Door {
    router: Router,
    deadlines: Deadlines,
    head_timeout: Duration,
    idle_timeout: Duration,
    shutdown: CancellationToken,
}

impl Door {
    /// Serves one connection to its end.
    async fn hold(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        place: OwnedSemaphorePermit,
        cut: CancellationToken,
    ) {
        let _ = stream.set_nodelay(true);
        let phase = Phase::new();
        let io = HeadDeadline::new(stream, phase.clone(), self.head_timeout);
        let service = hyper::service::service_fn(|request| self.answer(request, peer, &phase));
        let mut connection = std::pin::pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                // Counts from the end of the answer before: the idle limit. The head's own
                // deadline, from its first byte on, is kept by `HeadDeadline`.
                .header_read_timeout(self.idle_timeout)
                .max_buf_size(HEAD_BYTES_MAX)
                .max_headers(HEADERS_MAX)
                .serve_connection(TokioIo::new(io), service)
        );
        let mut is_stopping = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "connection ended");
                    }
                    break;
                }
                () = self.shutdown.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = cut.cancelled() => break,
            }
        }
        drop(place);
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        phase: &Phase,
    ) -> Result<Response<Body>, Infallible> {
        phase.begin_answer();
        // Where the lengths are said twice, or chunks are read differently by a proxy, one request
        // can hide in another. It finds no connection to be read from. hyper itself drops a
        // length that comes after `Transfer-Encoding`, so that both can not be seen here.
        let is_last = request.headers().contains_key(TRANSFER_ENCODING);
        let mut request = request.map(|body| Body::new(TimedBody::new(body, self.deadlines)));
        request.extensions_mut().insert(Peer(peer));
        let mut response = self.router.clone().oneshot(request).await?;
        if is_last {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        phase.end_answer();
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_at_the_cap_is_as_long_as_it_says() {
        let text = std::str::from_utf8(FULL).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
        serde_json::from_str::<serde_json::Value>(body).expect("JSON");
    }
}
