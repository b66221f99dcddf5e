//! The admin port: `/livez`, `/readyz`, `/metrics`, over plain hyper.
//!
//! Meant for the operator's network only. Bounded: few connections at once, none kept for long.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::telemetry::Metrics;

const CONNECTIONS_MAX: usize = 64;
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
const DRAIN_WITHIN: Duration = Duration::from_secs(1);
/// How long to wait after a failed accept: the cause, such as no free descriptor, lasts a while.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until shutdown. Cancel the token last, so that `/readyz` tells of the stop meanwhile.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, place)) = accepted else { continue };
        let (health, metrics) = (health.clone(), metrics.clone());
        let answer = service_fn(move |request| {
            let response = answer(&request, &health, &metrics);
            async move { Ok::<_, Infallible>(response) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_WITHIN)
            .serve_connection(TokioIo::new(stream), answer);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // A scraper that went away is no news.
            drop(connection.await);
            drop(place);
        });
    }
    drop(tokio::time::timeout(DRAIN_WITHIN, graceful.shutdown()).await);
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            tracing::warn!(%error, "the admin port accepts nothing");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

fn answer(
    request: &Request<Incoming>,
    health: &Health,
    metrics: &Metrics,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", String::new());
    }
    match request.uri().path() {
        "/livez" => reply(StatusCode::OK, "text/plain", "alive\n".into()),
        "/readyz" => readiness(&health.failing()),
        "/metrics" => reply(StatusCode::OK, "text/plain; version=0.0.4", metrics.render()),
        _ => reply(StatusCode::NOT_FOUND, "text/plain", String::new()),
    }
}

fn readiness(failing: &[&'static str]) -> Response<Full<Bytes>> {
    let status = if failing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({ "ready": failing.is_empty(), "failing": failing });
    reply(status, "application/json", body.to_string())
}

fn reply(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn get(address: std::net::SocketAddr, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    #[tokio::test]
    async fn the_admin_port_tells_life_readiness_and_metrics_until_it_stops() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (health, shutdown) = (Health::default(), CancellationToken::new());
        let serving =
            tokio::spawn(serve(listener, health.clone(), Metrics::install(), shutdown.clone()));

        assert!(get(address, "/livez").await?.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/readyz").await?.contains("{\"failing\":[],\"ready\":true}"));
        assert!(get(address, "/metrics").await?.contains("process_open_fds"));
        assert!(get(address, "/other").await?.starts_with("HTTP/1.1 404"));

        health.check("redis", Arc::new(|| false));
        let unready = get(address, "/readyz").await?;
        assert!(unready.starts_with("HTTP/1.1 503"), "{unready}");
        assert!(unready.contains("\"failing\":[\"redis\"]"), "{unready}");
        assert!(get(address, "/livez").await?.starts_with("HTTP/1.1 200"));

        shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(5), serving).await??;
        assert!(TcpStream::connect(address).await.is_err());
        Ok(())
    }
}
