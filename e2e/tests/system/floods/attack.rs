//! What strangers send, byte by byte.

use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::System;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

const DRIP_EVERY: Duration = Duration::from_millis(400);
/// Handshakes at once.
const CONNECTING: usize = 64;
const CHUNK: usize = 64 * 1024;

/// A request nobody sends by mistake.
pub(super) struct Rude {
    pub(super) name: &'static str,
    head: String,
    /// Sent again and again, as often as this, unless the gateway has had enough.
    body: (Vec<u8>, usize),
    /// The statuses it may get. It may always be cut.
    pub(super) answers: &'static [&'static str],
}

/// All of them.
pub(super) fn rude() -> Vec<Rude> {
    let post = |more: &str| {
        let head = "POST /v1/tokens HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
        format!("{head}content-type: application/json\r\n{more}\r\n")
    };
    let get =
        |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{more}\r\n");
    let long = "a".repeat(200_000);
    let many: Vec<_> = (0..10_000).map(|n| format!("x-{n}: {n}\r\n")).collect();
    let nested = format!("{{\"login\":{}", "[".repeat(3_000));
    let said = |bytes: &str| post(&format!("content-length: {}\r\n", bytes.len()));
    let rude = |name, head, body, answers| Rude { name, head, body, answers };
    vec![
        rude("ten thousand headers", get("/v1/time", &many.concat()), none(), &["431", "400"]),
        rude("a header of 200 kB", get("/v1/time", &format!("x: {long}\r\n")), none(), &["431"]),
        rude("a path of 200 kB", get(&format!("/{long}"), ""), none(), &["414", "431"]),
        rude(
            "a body that is to be 10 GB",
            post("content-length: 10000000000\r\n"),
            (vec![b' '; CHUNK], 1_000),
            &["413"],
        ),
        rude(
            "chunks without end",
            post("transfer-encoding: chunked\r\n"),
            (format!("{CHUNK:x}\r\n{}\r\n", " ".repeat(CHUNK)).into_bytes(), 1_000),
            &["413"],
        ),
        rude(
            "chunks of one byte with long names",
            post("transfer-encoding: chunked\r\n"),
            (format!("1;{}\r\n \r\n", "n".repeat(1_000)).into_bytes(), 5_000),
            &["400", "413"],
        ),
        rude("JSON nested 3,000 deep", said(&nested), (nested.into_bytes(), 1), &["400"]),
        rude(
            "a body said to be gzip",
            post("content-encoding: gzip\r\ncontent-length: 1000\r\n"),
            (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03".repeat(100), 1),
            &["415"],
        ),
        rude("no HTTP at all", "\u{16}\u{3}\u{1}\u{2}".repeat(1_000), none(), &["400"]),
        rude("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), none(), &["400", "505"]),
    ]
}

fn none() -> (Vec<u8>, usize) {
    (Vec::new(), 0)
}

/// What became of connections that said nothing.
#[derive(Debug)]
pub(super) struct Idled {
    /// How many were open at once, when the last one had been opened.
    pub(super) held: usize,
    /// How long it took to open all of them.
    pub(super) opening: Duration,
    /// How long the first one was kept that was cut.
    pub(super) shortest: Duration,
    /// And the one that was kept longest.
    pub(super) longest: Duration,
}

impl fmt::Display for Idled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { held, opening, shortest, longest } = self;
        write!(f, "{held} idle connections at once, opened within {opening:.1?}; ")?;
        write!(f, "the first one cut after {shortest:.2?}, the last one after {longest:.2?}")
    }
}

/// Somebody with one address, which is not the patients'.
pub(super) struct Attacker {
    gateway: SocketAddr,
}

impl Attacker {
    pub(super) fn of(system: &System) -> Result<Self> {
        let port = system.gateway_url(0)?.port().context("a port")?;
        Ok(Self { gateway: ([127, 0, 0, 1], port).into() })
    }

    async fn connect(&self) -> Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind("127.0.0.66:0".parse()?)?;
        Ok(socket.connect(self.gateway).await?)
    }

    /// Opens so many connections and says nothing. Fails if one of them is not cut within its deadline,
    /// counted from its own opening, or hears anything.
    pub(super) async fn idle(&self, count: usize, within: Duration) -> Result<Idled> {
        let started = Instant::now();
        let open = Arc::new(AtomicUsize::new(0));
        let opening = stream::iter((0..count).map(|_| async {
            // The gateway's clock starts later, so that no cut can seem early.
            let asked = Instant::now();
            let mut stream = self.connect().await?;
            open.fetch_add(1, Ordering::Relaxed);
            let open = Arc::clone(&open);
            Ok::<_, anyhow::Error>(tokio::spawn(async move {
                let said = until_closed(&mut stream, within).await?;
                open.fetch_sub(1, Ordering::Relaxed);
                ensure!(said == "cut", "who says nothing hears {said}");
                Ok(asked.elapsed())
            }))
        }));
        let watched: Vec<_> = opening.buffer_unordered(CONNECTING).try_collect().await?;
        let (held, opening) = (open.load(Ordering::Relaxed), started.elapsed());
        let mut kept = Vec::with_capacity(count);
        for cut in watched {
            kept.push(cut.await??);
        }
        let shortest = kept.iter().min().copied().unwrap_or_default();
        let longest = kept.iter().max().copied().unwrap_or_default();
        Ok(Idled { held, opening, shortest, longest })
    }

    /// Sends a head that never ends, byte by byte, until the gateway has had enough.
    pub(super) async fn drip_head(&self, within: Duration) -> Result<String> {
        self.drip(b"GET /v1/time HTTP/1.1\r\nhost: x\r\nx-more: ", within).await
    }

    /// Sends a body byte by byte.
    pub(super) async fn drip_body(&self, within: Duration) -> Result<String> {
        let head = "POST /v1/tokens HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
        self.drip(format!("{head}content-length: 4000\r\n\r\n").as_bytes(), within).await
    }

    async fn drip(&self, head: &[u8], within: Duration) -> Result<String> {
        let (mut read, mut write) = self.connect().await?.into_split();
        write.write_all(head).await?;
        let dripping = async move {
            while write.write_all(b" ").await.is_ok() {
                sleep(DRIP_EVERY).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = dripping => anyhow::bail!("it drips no more"),
            said = until_closed(&mut read, within) => said,
        }
    }

    /// Sends a rude request; returns the status of the answer, or "cut".
    pub(super) async fn send(&self, rude: &Rude, within: Duration) -> Result<String> {
        let (mut read, mut write) = self.connect().await?.into_split();
        let sending = async move {
            let mut is_heard = write.write_all(rude.head.as_bytes()).await.is_ok();
            for _ in 0..rude.body.1 {
                is_heard = is_heard && write.write_all(&rude.body.0).await.is_ok();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = sending => anyhow::bail!("it is never over"),
            said = until_closed(&mut read, within) => said,
        }
    }
}

/// Reads to the end of the connection; returns the status it said first, or "cut".
async fn until_closed<R: tokio::io::AsyncRead + Unpin>(
    stream: &mut R,
    within: Duration,
) -> Result<String> {
    let mut said = [0; 1_024];
    let mut first = String::new();
    let reading = async {
        loop {
            match stream.read(&mut said).await {
                Ok(0) => return Ok(()),
                Ok(count) if first.is_empty() => {
                    first = String::from_utf8_lossy(&said[..count]).into_owned();
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    };
    timeout(within, reading).await.with_context(|| format!("not cut within {within:?}"))??;
    let status = first.split(' ').nth(1).unwrap_or("cut");
    Ok(status.to_owned())
}
