//! What all three ways of load have in common: requests, answers, outcomes and their counts.
//!
//! A run has a thread of its own with everything of the generator on it, so that nothing needs a lock
//! and its processor time is told apart from what else the process does.

pub mod closed;
mod connection;
pub mod open;
mod open_files;
pub mod storm;
mod timer;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

pub use open_files::allow_open_files;

use connection::Connection;

/// How long one connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a connection that could not be opened again waits before the next attempt.
const RECONNECT_PAUSE: Duration = Duration::from_millis(10);

/// One request, ready to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    /// The whole of it, head and body, as HTTP/1.1 for a connection that is kept.
    pub bytes: Bytes,
    /// Given back with its answer.
    pub tag: u64,
}

impl From<Bytes> for Request {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, tag: 0 }
    }
}

/// One answer.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The tag of its request.
    pub tag: u64,
    /// HTTP status.
    pub status: u16,
    /// The body, whole.
    pub body: &'a [u8],
}

/// What became of a request that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It got what it came for.
    Accepted,
    /// A right answer, but "no": sold out, not open, limit reached.
    Refused,
    /// Turned away because of load.
    Shed,
    /// An answer that should not be, or that is not HTTP.
    Failed,
    /// No answer: the connection ended first, or the run did.
    Lost,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Accepted, Self::Refused, Self::Shed, Self::Failed, Self::Lost];

    /// Its word in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Shed => "shed",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }
}

/// Where requests come from and who judges the answers.
///
/// A pair of closures will do: `(|| Some(request.clone()), |answer: &Answer<'_>| …)`.
pub trait Work: Send + 'static {
    /// Makes the next request; `None` when there are no more, and then it is not asked again.
    fn next(&mut self) -> Option<Request>;

    /// Says what an answer comes to. Is not asked about requests that were lost.
    fn judge(&mut self, answer: &Answer<'_>) -> Outcome;
}

impl<N, J> Work for (N, J)
where
    N: FnMut() -> Option<Request> + Send + 'static,
    J: FnMut(&Answer<'_>) -> Outcome + Send + 'static,
{
    fn next(&mut self) -> Option<Request> {
        (self.0)()
    }

    fn judge(&mut self, answer: &Answer<'_>) -> Outcome {
        (self.1)(answer)
    }
}

/// Requests by outcome, and the bytes they moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// [`Outcome::Accepted`].
    pub accepted: u64,
    /// [`Outcome::Refused`].
    pub refused: u64,
    /// [`Outcome::Shed`].
    pub shed: u64,
    /// [`Outcome::Failed`].
    pub failed: u64,
    /// [`Outcome::Lost`].
    pub lost: u64,
    /// Bytes of answers, heads included.
    pub bytes_in: u64,
    /// Bytes of requests, heads included.
    pub bytes_out: u64,
}

impl Counts {
    /// How many had this outcome.
    pub const fn of(&self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Accepted => self.accepted,
            Outcome::Refused => self.refused,
            Outcome::Shed => self.shed,
            Outcome::Failed => self.failed,
            Outcome::Lost => self.lost,
        }
    }

    /// Requests sent.
    pub const fn total(&self) -> u64 {
        self.accepted + self.refused + self.shed + self.failed + self.lost
    }

    /// The sum of both.
    #[must_use]
    pub const fn and(&self, other: &Self) -> Self {
        Self {
            accepted: self.accepted + other.accepted,
            refused: self.refused + other.refused,
            shed: self.shed + other.shed,
            failed: self.failed + other.failed,
            lost: self.lost + other.lost,
            bytes_in: self.bytes_in + other.bytes_in,
            bytes_out: self.bytes_out + other.bytes_out,
        }
    }

    fn add(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Accepted => &mut self.accepted,
            Outcome::Refused => &mut self.refused,
            Outcome::Shed => &mut self.shed,
            Outcome::Failed => &mut self.failed,
            Outcome::Lost => &mut self.lost,
        } += 1;
    }

    fn count(&mut self, ended: &Ended) {
        self.add(ended.outcome);
        self.bytes_in += ended.bytes_in;
        self.bytes_out += ended.bytes_out;
    }
}

/// How one exchange ended.
struct Ended {
    outcome: Outcome,
    bytes_in: u64,
    bytes_out: u64,
    /// The connection may carry another.
    is_kept: bool,
}

/// Sends one request, reads its answer and has it judged.
async fn exchange(
    connection: &mut Connection,
    request: &Request,
    judge: impl FnOnce(&Answer<'_>) -> Outcome,
) -> Ended {
    let bytes_out = request.bytes.len() as u64;
    match connection.exchange(&request.bytes).await {
        Ok(head) => {
            let body = connection.body(&head);
            let answer = Answer { tag: request.tag, status: head.status, body };
            let outcome = judge(&answer);
            Ended { outcome, bytes_in: head.bytes(), bytes_out, is_kept: !head.is_last }
        }
        Err(error) => {
            let is_nonsense = error.kind() == io::ErrorKind::InvalidData;
            let outcome = if is_nonsense { Outcome::Failed } else { Outcome::Lost };
            Ended { outcome, bytes_in: 0, bytes_out, is_kept: false }
        }
    }
}

/// Opens this many connections, or fails with the first that can't be opened.
async fn open_all(address: SocketAddr, connections: usize) -> io::Result<Vec<Connection>> {
    let mut all = Vec::with_capacity(connections);
    for _ in 0..connections {
        all.push(open(address).await?);
    }
    Ok(all)
}

/// Asks one greeting over each connection, one after the other. All must stand afterwards.
async fn greet_all(connections: &mut [Connection], greetings: &[Bytes]) -> io::Result<()> {
    for (connection, greeting) in connections.iter_mut().zip(greetings.iter().cycle()) {
        let greeted =
            tokio::time::timeout(CONNECT_TIMEOUT, connection.exchange(greeting)).await??;
        if greeted.is_last {
            return Err(io::Error::other("the server closes connections after a greeting"));
        }
    }
    Ok(())
}

async fn open(address: SocketAddr) -> io::Result<Connection> {
    tokio::time::timeout(CONNECT_TIMEOUT, Connection::open(address)).await?
}

/// Runs `run` to its end on a runtime and a thread of its own.
async fn apart<T, F>(run: impl FnOnce() -> F + Send + 'static) -> io::Result<T>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>>,
{
    let alone = move || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build_local(tokio::runtime::LocalOptions::default())?;
        runtime.block_on(run())
    };
    tokio::task::spawn_blocking(alone).await.map_err(io::Error::other)?
}
