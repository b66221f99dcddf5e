//! Closed loop: a number of connections, each of which sends its next request when it has its answer.
//!
//! For throughput only. It tells no latencies: a server that stands still is asked nothing meanwhile, so
//! they would hide what a patient would have met ([`super::open`] tells them).

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::Serialize;
use testkit::cpu_used_by_thread;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connection::Connection;
use super::{Answer, Counts, Outcome, RECONNECT_PAUSE, Work, apart, exchange, open, open_all};

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The server.
    pub address: SocketAddr,
    /// Connections, all opened before the first request.
    pub connections: usize,
    /// How long to load before counting.
    pub warm_up: Duration,
    /// How long to count, or less if requests run out.
    pub duration: Duration,
    /// How long to wait for the last answers; what has none by then is lost.
    pub drain: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How long the counted part took, s.
    pub elapsed_s: f64,
    /// Requests that ended in the counted part.
    pub counts: Counts,
    /// Those before it.
    pub warm_up: Counts,
    /// Those after it. An audit needs all three: [`Report::all`].
    pub late: Counts,
    /// Connections opened again because the server had closed them.
    pub reconnects: u64,
    /// Attempts at that which failed.
    pub connect_failures: u64,
    /// Processor time of the generator in the counted part, s, kernel included.
    pub cpu_s: f64,
}

impl Report {
    /// Requests with this outcome per second.
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 requests")]
    pub fn per_second(&self, outcome: Outcome) -> f64 {
        self.counts.of(outcome) as f64 / self.elapsed_s
    }

    /// Processor time of the generator per request, µs.
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 requests")]
    pub fn cpu_us_per_request(&self) -> f64 {
        self.cpu_s * 1e6 / self.counts.total() as f64
    }

    /// Everything sent, before, in and after the counted part.
    pub fn all(&self) -> Counts {
        self.counts.and(&self.warm_up).and(&self.late)
    }
}

/// Runs a plan, and gives the work back.
///
/// # Errors
/// If not all connections can be opened at the start.
pub async fn run<W: Work>(plan: Plan, work: W) -> io::Result<(Report, W)> {
    apart(move || drive(plan, work)).await
}

/// Where the run is.
#[derive(Clone, Copy)]
enum Part {
    WarmUp,
    Counted,
    Late,
}

struct Shared<W> {
    address: SocketAddr,
    work: RefCell<W>,
    part: Cell<Part>,
    /// By part.
    counts: RefCell<[Counts; 3]>,
    /// Sent, not answered, and what that took.
    in_flight: RefCell<Counts>,
    has_run_out: Cell<bool>,
    reconnects: Cell<u64>,
    connect_failures: Cell<u64>,
}

async fn drive<W: Work>(plan: Plan, work: W) -> io::Result<(Report, W)> {
    let connections = open_all(plan.address, plan.connections).await?;
    let shared = Rc::new(Shared {
        address: plan.address,
        work: RefCell::new(work),
        part: Cell::new(Part::WarmUp),
        counts: RefCell::default(),
        in_flight: RefCell::default(),
        has_run_out: Cell::new(false),
        reconnects: Cell::new(0),
        connect_failures: Cell::new(0),
    });
    let mut loops = JoinSet::new();
    for connection in connections {
        loops.spawn_local(repeat(Rc::clone(&shared), connection));
    }
    let mut ended = async || while loops.join_next().await.is_some() {};
    // What ends early has run out of requests.
    let _ = timeout(plan.warm_up, ended()).await;
    shared.part.set(Part::Counted);
    let (started, cpu_before) = (Instant::now(), cpu_used_by_thread());
    let _ = timeout(plan.duration, ended()).await;
    shared.part.set(Part::Late);
    let (elapsed, cpu) = (started.elapsed(), cpu_used_by_thread().saturating_sub(cpu_before));
    let _ = timeout(plan.drain, ended()).await;
    loops.shutdown().await;
    let shared = Rc::into_inner(shared).ok_or_else(|| io::Error::other("a loop did not end"))?;
    let [warm_up, counts, late] = shared.counts.into_inner();
    let report = Report {
        elapsed_s: elapsed.as_secs_f64(),
        counts,
        warm_up,
        late: late.and(&shared.in_flight.into_inner()),
        reconnects: shared.reconnects.get(),
        connect_failures: shared.connect_failures.get(),
        cpu_s: cpu.as_secs_f64(),
    };
    Ok((report, shared.work.into_inner()))
}

/// Sends one request after another until they run out or time is up.
async fn repeat<W: Work>(shared: Rc<Shared<W>>, connection: Connection) {
    let mut connection = Some(connection);
    while !shared.is_over() {
        let Some(mut open) = shared.take_open(connection.take()).await else { continue };
        let request = shared.work.borrow_mut().next();
        let Some(request) = request else {
            shared.has_run_out.set(true);
            return;
        };
        shared.in_flight.borrow_mut().lost += 1;
        let judge = |answer: &Answer<'_>| shared.work.borrow_mut().judge(answer);
        let ended = exchange(&mut open, &request, judge).await;
        shared.in_flight.borrow_mut().lost -= 1;
        shared.counts.borrow_mut()[shared.part.get() as usize].count(&ended);
        connection = ended.is_kept.then_some(open);
    }
}

impl<W> Shared<W> {
    fn is_over(&self) -> bool {
        matches!(self.part.get(), Part::Late) || self.has_run_out.get()
    }

    /// This connection if it is still open, or another. `None` if there is none to be had just now.
    async fn take_open(&self, connection: Option<Connection>) -> Option<Connection> {
        if let Some(mut connection) = connection
            && connection.is_open()
        {
            return Some(connection);
        }
        if let Ok(connection) = open(self.address).await {
            self.reconnects.set(self.reconnects.get() + 1);
            return Some(connection);
        }
        self.connect_failures.set(self.connect_failures.get() + 1);
        sleep(RECONNECT_PAUSE).await;
        None
    }
}
