//! Storm: very many connections at once, each with one request. What a release does at t = 0.

use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use serde::Serialize;
use testkit::cpu_used_by_thread;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::connection::Connection;
use super::timer::Timer;
use super::{Counts, Ended, Outcome, Request, Work, allow_open_files, apart, exchange};
use crate::latency::{Latencies, Latency};

/// What the process has open besides, at most.
const OTHER_FILES: u64 = 512;

/// How long before the first connection everything has to be ready.
const LEAD: Duration = Duration::from_millis(50);

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The server.
    pub address: SocketAddr,
    /// How many.
    pub connections: usize,
    /// Within what time they are opened, at equal distances.
    pub window: Duration,
    /// How many addresses they come from: 127.0.0.1, 127.0.0.2, … (a server on loopback only). One address
    /// has some 28,000 ports.
    pub sources: u8,
    /// Threads that open them. A connection costs some 18 µs of processor time, most of it the kernel's:
    /// 10,000 in 100 ms need two, with a core each meanwhile ([`Report::opened_ms`] tells).
    pub threads: usize,
    /// What counts as answered in time, from the intended start.
    pub answer_max: Duration,
    /// How long to wait for the last answers; what has none by then is lost.
    pub drain: Duration,
}

/// What came of it. The intended start of a request is that of its connection.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Connections tried, each with one request: refused, unopened and counts.
    pub connections: u64,
    /// From the first intended start until the last was asked for, ms. Longer than the window: the
    /// generator was too slow for this storm.
    pub opened_ms: f64,
    /// Connections the server refused or reset before the request was sent.
    pub refused: u64,
    /// Connections that did not stand by the end.
    pub unopened: u64,
    /// Requests sent, by outcome.
    pub counts: Counts,
    /// Requests answered in time, of any outcome but lost.
    pub answered_in_time: u64,
    /// From intended start until answered, by outcome. Of lost ones only where the connection ended.
    pub latencies: Latencies,
    /// From intended start until the connection stood, ms.
    pub connect: Latency,
    /// Processor time of the generator, s, kernel included.
    pub cpu_s: f64,
}

impl Report {
    /// The share of all connections that was answered in time, 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 connections")]
    pub fn answered_share(&self) -> f64 {
        self.answered_in_time as f64 / self.connections as f64
    }

    fn add(&mut self, part: &Self) {
        self.connections += part.connections;
        self.opened_ms = self.opened_ms.max(part.opened_ms);
        self.refused += part.refused;
        self.unopened += part.unopened;
        self.counts = self.counts.and(&part.counts);
        self.answered_in_time += part.answered_in_time;
        self.latencies.merge(&part.latencies);
        self.connect.merge(&part.connect);
        self.cpu_s += part.cpu_s;
    }

    fn count(&mut self, ended: &Ended, latency: Duration, plan: &Plan) {
        self.counts.count(ended);
        self.latencies.record(ended.outcome, latency);
        let is_in_time = ended.outcome != Outcome::Lost && latency <= plan.answer_max;
        self.answered_in_time += u64::from(is_in_time);
    }
}

/// Runs a plan, and gives the work back. Fewer connections if there are fewer requests.
///
/// Raises the limit of open files if it must; the server has one of its own ([`allow_open_files`]).
///
/// # Errors
/// If so many files may not be open, or the sockets can't be made.
pub async fn run<W: Work>(plan: Plan, mut work: W) -> io::Result<(Report, W)> {
    allow_open_files(plan.connections as u64 + OTHER_FILES)?;
    let mut shares: Vec<Vec<Guest>> = (0..plan.threads.max(1)).map(|_| Vec::new()).collect();
    let count = shares.len();
    for index in 0..plan.connections {
        let Some(request) = work.next() else { break };
        let after = plan.window.mul_f64(fraction(index, plan.connections));
        shares[index % count].push(Guest { after, socket: socket(&plan, index)?, request });
    }
    let work = Arc::new(Mutex::new(work));
    let start = Instant::now() + LEAD;
    let threads: Vec<_> = shares
        .into_iter()
        .map(|share| {
            let work = Arc::clone(&work);
            tokio::spawn(apart(move || drive(plan, share, start, work)))
        })
        .collect();
    let mut report = Report::default();
    for thread in threads {
        report.add(&thread.await.map_err(io::Error::other)??);
    }
    let work = Arc::into_inner(work).ok_or_else(|| io::Error::other("a thread did not end"))?;
    Ok((report, work.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

/// One connection to be.
struct Guest {
    /// Its intended start, from the start of the storm.
    after: Duration,
    socket: OwnedFd,
    request: Request,
}

/// How a guest fared.
enum Fate {
    Refused,
    Met { stood: Duration, latency: Duration, ended: Ended },
}

#[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 connections")]
fn fraction(index: usize, count: usize) -> f64 {
    index as f64 / count as f64
}

/// A socket with everything done that can be done before the storm.
fn socket(plan: &Plan, index: usize) -> io::Result<OwnedFd> {
    let family = if plan.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    if plan.sources > 1 {
        let sources = usize::from(plan.sources);
        let last = u8::try_from(1 + index % sources).unwrap_or(u8::MAX);
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 0))?;
    }
    Ok(socket)
}

async fn drive<W: Work>(
    plan: Plan,
    share: Vec<Guest>,
    start: Instant,
    work: Arc<Mutex<W>>,
) -> io::Result<Report> {
    let mut report = Report { connections: share.len() as u64, ..Report::default() };
    let timer = Timer::new()?;
    let cpu_before = cpu_used_by_thread();
    let standing = Rc::new(Cell::new(0));
    let mut guests = JoinSet::new();
    for Guest { after, socket, request } in share {
        let intended = start + after;
        // No wait, and so no other work, as long as connections are late.
        timer.until(intended).await?;
        let asked = match connect(&socket, &plan.address) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(()),
            Err(error) => Err(io::Error::from(error)),
        };
        report.opened_ms = start.elapsed().as_secs_f64() * 1e3;
        match asked {
            Ok(()) => {
                let stream = TcpStream::from(socket);
                guests.spawn_local(visit(
                    stream,
                    intended,
                    request,
                    Arc::clone(&work),
                    Rc::clone(&standing),
                ));
            }
            // Not the server's doing: this side has no ports, say.
            Err(error) if !is_refusal(&error) => return Err(error),
            Err(_) => report.refused += 1,
        }
    }
    let count_all = async {
        while let Some(fate) = guests.join_next().await {
            match fate.map_err(io::Error::other)?? {
                Fate::Refused => report.refused += 1,
                Fate::Met { stood, latency, ended } => {
                    report.connect.record(stood);
                    report.count(&ended, latency, &plan);
                }
            }
        }
        io::Result::Ok(())
    };
    if let Ok(ended) = timeout(plan.drain, count_all).await {
        ended?;
    }
    let left = guests.len() as u64;
    let asked = standing.get() - report.counts.total();
    report.counts.lost += asked;
    report.unopened = left - asked;
    report.cpu_s = cpu_used_by_thread().saturating_sub(cpu_before).as_secs_f64();
    Ok(report)
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset)
}

/// Waits for the connection, sends the request and reads the answer.
async fn visit<W: Work>(
    stream: TcpStream,
    intended: Instant,
    request: Request,
    work: Arc<Mutex<W>>,
    standing: Rc<Cell<u64>>,
) -> io::Result<Fate> {
    let stream = tokio::net::TcpStream::from_std(stream)?;
    stream.writable().await?;
    if stream.take_error()?.is_some() {
        return Ok(Fate::Refused);
    }
    let stood = intended.elapsed();
    standing.set(standing.get() + 1);
    let mut connection = Connection::new(stream)?;
    let judge = |answer: &super::Answer<'_>| {
        work.lock().unwrap_or_else(PoisonError::into_inner).judge(answer)
    };
    let ended = exchange(&mut connection, &request, judge).await;
    Ok(Fate::Met { stood, latency: intended.elapsed(), ended })
}
