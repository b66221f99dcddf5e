//! A small HTTP server with faults.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// What the server does wrong.
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Answers nothing from the first of these until the second, from its start.
    pub(crate) stands_still: Option<(Duration, Duration)>,
    /// Closes a connection after so many answers, and says so with the last one.
    pub(crate) answers_max: Option<u64>,
    /// Closes without a word instead of every so-manieth answer of a connection.
    pub(crate) hangs_up_at: Option<u64>,
    /// Writes answers in pieces of this size, bytes.
    pub(crate) piece: Option<usize>,
    /// Sends this instead of an answer.
    pub(crate) nonsense: Option<&'static [u8]>,
}

/// Answers every request with its own body: 202 on `/accept`, 409 on everything else.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) answered: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start(faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        Self::on(listener, faults)
    }

    pub(crate) fn on(listener: TcpListener, faults: Faults) -> Self {
        let address = listener.local_addr().expect("bound");
        let answered = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&answered);
        let start = Instant::now();
        let task = tokio::spawn(async move {
            let mut guests = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                guests.spawn(serve(stream, faults, start, Arc::clone(&counter)));
            }
        });
        Self { address, answered, task }
    }

    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

/// A request that the server answers with this body.
pub(crate) fn request(path: &str, body: &str) -> bytes::Bytes {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}").into()
}

async fn serve(mut stream: TcpStream, faults: Faults, start: Instant, counter: Arc<AtomicU64>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = vec![0; 1 << 16];
    for number in 1.. {
        let Some(request) = read(&mut stream, &mut buffer).await else { return };
        if let Some((from, until)) = faults.stands_still
            && (from..until).contains(&start.elapsed())
        {
            tokio::time::sleep_until((start + until).into()).await;
        }
        if faults.hangs_up_at.is_some_and(|at| number == at) {
            return;
        }
        let is_last = faults.answers_max.is_some_and(|max| number == max);
        let answer = match faults.nonsense {
            Some(nonsense) => nonsense.to_vec(),
            None => answer(request, is_last),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        for piece in answer.chunks(faults.piece.unwrap_or(usize::MAX)) {
            if stream.write_all(piece).await.is_err() {
                return;
            }
            if faults.piece.is_some() {
                // Lets the other side read this much.
                tokio::task::yield_now().await;
            }
        }
        if is_last {
            return;
        }
    }
}

/// Reads one request whole.
async fn read<'a>(stream: &mut TcpStream, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await.ok().filter(|read| *read > 0)?;
        filled += read;
        let text = std::str::from_utf8(&buffer[..filled]).ok()?;
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split_once("Content-Length: ").map_or("0", |(_, rest)| rest);
            let length: usize = length.lines().next()?.parse().ok()?;
            if body.len() == length {
                return Some(&buffer[..filled]);
            }
        }
    }
}

fn answer(request: &[u8], is_last: bool) -> Vec<u8> {
    let text = String::from_utf8_lossy(request);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    let status = if head.starts_with("POST /accept") { "202 Accepted" } else { "409 Conflict" };
    let close = if is_last { "connection: close\r\n" } else { "" };
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{close}content-length: {length}\r\n\r\n{body}").into()
}

/// An address at which nobody listens, for as long as the socket lives.
pub(crate) fn closed_door() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("made");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
    let address = socket.local_addr().expect("bound");
    (socket, address)
}
