//! A bounded number of keep-alive HTTP/1.1 connections, and what is known of each request.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The largest answer read, bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// An answer, as far as the crowd cares.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After`, s.
    pub retry_after_s: Option<u64>,
    /// The body.
    pub body: Bytes,
}

/// What is known of a request.
#[derive(Clone, Debug)]
pub enum Sent {
    /// It was answered.
    Reply(Reply),
    /// There was no connection: certainly not sent.
    NotSent,
    /// It may have arrived; the answer did not.
    Lost,
}

/// Connections to one gateway. Waiting for a free one counts as waiting for the answer.
#[derive(Debug)]
pub struct Client {
    authority: String,
    host: HeaderValue,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    permits: Semaphore,
    request_timeout: Duration,
}

impl Client {
    /// Prepares up to `connections` connections to `base` (`http://host:port`).
    ///
    /// # Errors
    /// If `base` is not a plain HTTP address.
    pub fn new(
        base: &url::Url,
        connections: usize,
        request_timeout: Duration,
    ) -> anyhow::Result<Self> {
        if base.scheme() != "http" {
            bail!("the gateway's address starts with http://, not {}://", base.scheme());
        }
        let host = base.host_str().context("the gateway's address has no host")?;
        let port = base.port_or_known_default().unwrap_or(80);
        let authority = format!("{host}:{port}");
        Ok(Self {
            host: HeaderValue::from_str(&authority).context("the gateway's host is malformed")?,
            authority,
            idle: Mutex::new(Vec::new()),
            permits: Semaphore::new(connections),
            request_timeout,
        })
    }

    /// Opens up to `count` connections beforehand, so that the rush does not begin with handshakes.
    pub async fn warm(&self, count: usize) {
        for _ in 0..count {
            let Ok(connection) = self.connect().await else { return };
            self.put_back(connection);
        }
    }

    /// Sends one request with these further headers and reads its whole answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, HeaderValue)],
        body: Bytes,
    ) -> Sent {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        let Ok(uri) = path.parse() else { return Sent::NotSent };
        *request.uri_mut() = uri;
        let map = request.headers_mut();
        map.insert(HOST, self.host.clone());
        map.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in headers {
            map.insert(*name, value.clone());
        }
        let Ok(_permit) = self.permits.acquire().await else { return Sent::NotSent };
        let Some(mut connection) = self.connection().await else { return Sent::NotSent };
        match timeout(self.request_timeout, exchange(&mut connection, request)).await {
            Ok(Ok(reply)) => {
                self.put_back(connection);
                Sent::Reply(reply)
            }
            // The connection is dropped: a late answer on it must not meet another request.
            Ok(Err(())) | Err(_) => Sent::Lost,
        }
    }

    async fn connection(&self) -> Option<SendRequest<Full<Bytes>>> {
        while let Some(mut idle) = self.take_idle() {
            if idle.ready().await.is_ok() {
                return Some(idle);
            }
        }
        self.connect().await.ok()
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.authority)).await??;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Ends with the connection; its error shows as the request's.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        self.idle.lock().ok()?.pop()
    }

    fn put_back(&self, connection: SendRequest<Full<Bytes>>) {
        if let Ok(mut idle) = self.idle.lock()
            && !connection.is_closed()
        {
            idle.push(connection);
        }
    }
}

async fn exchange(
    connection: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Reply, ()> {
    let response = connection.send_request(request).await.map_err(drop)?;
    let status = response.status().as_u16();
    let retry_after_s = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok());
    let body = http_body_util::Limited::new(response.into_body(), BODY_BYTES_MAX);
    let body = body.collect().await.map_err(drop)?.to_bytes();
    Ok(Reply { status, retry_after_s, body })
}
