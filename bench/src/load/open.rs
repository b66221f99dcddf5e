//! Open loop: requests start when they were meant to, at a fixed rate, whether or not the server keeps up.
//!
//! For latency. Each request has an intended start; its latency runs from there to its answer, also while
//! it waits for one of the connections, so a server that stands still is seen in every request that
//! patients would have sent meanwhile (no coordinated omission).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;
use testkit::cpu_used_by_thread;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connection::Connection;
use super::timer::Timer;
use super::{
    Answer, Counts, Ended, Outcome, RECONNECT_PAUSE, Request, Work, apart, exchange, greet_all,
    open, open_all,
};
use crate::latency::{Latencies, Latency, Percentiles};

/// How requests are spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// At equal distances.
    Uniform,
    /// As independent people come; the same seed gives the same times.
    Poisson {
        /// Of the random distances.
        seed: u64,
    },
}

/// How long idle connections may take to close.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub address: SocketAddr,
    /// Connections, all opened before the first request: the most requests in flight.
    pub connections: usize,
    /// Asked before that, one over each of them and from the first again, whatever the status of the answers. A
    /// server soon closes a connection that never carried a request: thousands at one instant, where few are
    /// needed.
    pub greetings: Vec<Bytes>,
    /// Offered load, requests/s; more than zero.
    pub rate_per_s: f64,
    /// How they are spread.
    pub arrivals: Arrivals,
    /// How long to load before latencies count.
    pub warm_up: Duration,
    /// How long latencies count, or less if requests run out.
    pub duration: Duration,
    /// The most requests that may wait for a connection; one more is unsent.
    pub waiting_max: usize,
    /// How long to wait for the last answers. What is in flight then is lost, what waits is unsent.
    pub drain: Duration,
}

/// What came of it. Unsent and lost requests have no latency of their own: where they are more than the
/// share above a percentile, that percentile says nothing.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How long requests were meant to start in the counted part, s.
    pub elapsed_s: f64,
    /// Requests meant to start in the counted part: counts and unsent.
    pub offered: u64,
    /// Of those: sent, by outcome.
    pub counts: Counts,
    /// Of those: never sent, for want of a connection or of room to wait.
    pub unsent: u64,
    /// Their latencies from intended start, by outcome. Of a lost one, until it was given up.
    pub latencies: Latencies,
    /// From intended start until sent: what of the latency was waiting, on this side.
    pub waited: Percentiles,
    /// Requests meant to start before the counted part, by outcome.
    pub warm_up: Counts,
    /// Connections opened again because the server had closed them.
    pub reconnects: u64,
    /// Attempts at that which failed; their requests are unsent.
    pub connect_failures: u64,
    /// Processor time of the generator in the whole run, s, kernel included.
    pub cpu_s: f64,
}

/// Runs a plan, and gives the work back.
///
/// # Errors
/// If not all connections can be opened and greeted at the start, or the rate is not one.
pub async fn run<W: Work>(plan: Plan, work: W) -> io::Result<(Report, W)> {
    run_telling(plan, work, oneshot::channel().0).await
}

/// The same, and tells when all connections are open and greeted: the load begins.
///
/// # Errors
/// As above; nothing is told then.
pub async fn run_telling<W: Work>(
    plan: Plan,
    work: W,
    begins: oneshot::Sender<()>,
) -> io::Result<(Report, W)> {
    if !(plan.rate_per_s > 0.0 && plan.rate_per_s.is_finite()) {
        return Err(io::Error::other("the rate must be more than zero"));
    }
    apart(move || drive(plan, work, begins)).await
}

/// A request and when it was meant to start.
struct Job {
    intended: Instant,
    request: Request,
}

struct Shared<W> {
    address: SocketAddr,
    work: RefCell<W>,
    /// Requests meant to start earlier are of the warm-up.
    counted_from: Instant,
    waiting: RefCell<VecDeque<Job>>,
    /// Connections with nothing to do, the last used on top: as a proxy takes them, so that at little load
    /// few are in use, however many there are.
    idle: RefCell<Vec<usize>>,
    /// Wakes each of them.
    called: Vec<Notify>,
    is_over: Cell<bool>,
    /// A request ended, or was not sent.
    ended: Notify,
    tally: RefCell<Tally>,
}

#[derive(Default)]
struct Tally {
    counts: Counts,
    warm_up: Counts,
    unsent: u64,
    latencies: Latencies,
    waited: Latency,
    reconnects: u64,
    connect_failures: u64,
    /// Intended starts of what is in flight, or about to be, by connection.
    in_flight: Vec<Option<Instant>>,
}

async fn drive<W: Work>(
    plan: Plan,
    work: W,
    begins: oneshot::Sender<()>,
) -> io::Result<(Report, W)> {
    let mut connections = open_all(plan.address, plan.connections).await?;
    greet_all(&mut connections, &plan.greetings).await?;
    let timer = Timer::new()?;
    let cpu_before = cpu_used_by_thread();
    // Nobody need listen.
    let _ = begins.send(());
    let start = Instant::now();
    let shared = Rc::new(Shared {
        address: plan.address,
        work: RefCell::new(work),
        counted_from: start + plan.warm_up,
        waiting: RefCell::default(),
        idle: RefCell::default(),
        called: (0..plan.connections).map(|_| Notify::new()).collect(),
        is_over: Cell::new(false),
        ended: Notify::new(),
        tally: RefCell::new(Tally { in_flight: vec![None; plan.connections], ..Tally::default() }),
    });
    let mut senders = JoinSet::new();
    for (index, connection) in connections.into_iter().enumerate() {
        senders.spawn_local(send(Rc::clone(&shared), index, connection));
    }
    let end = offer(&plan, &shared, &timer, start).await?;
    shared.is_over.set(true);
    if timeout(plan.drain, shared.rest()).await.is_ok() {
        shared.called.iter().for_each(Notify::notify_one);
        let _ = timeout(CLOSE_MAX, async { while senders.join_next().await.is_some() {} }).await;
    }
    senders.shutdown().await;
    let shared = Rc::into_inner(shared).ok_or_else(|| io::Error::other("a sender did not end"))?;
    let counted_from = shared.counted_from;
    let (tally, work) = shared.close();
    let report = Report {
        elapsed_s: end.saturating_duration_since(counted_from).as_secs_f64(),
        offered: tally.counts.total() + tally.unsent,
        counts: tally.counts,
        unsent: tally.unsent,
        latencies: tally.latencies,
        waited: tally.waited.percentiles(),
        warm_up: tally.warm_up,
        reconnects: tally.reconnects,
        connect_failures: tally.connect_failures,
        cpu_s: cpu_used_by_thread().saturating_sub(cpu_before).as_secs_f64(),
    };
    Ok((report, work))
}

/// Lets requests arrive at their intended times; returns when the last could have.
async fn offer<W: Work>(
    plan: &Plan,
    shared: &Shared<W>,
    timer: &Timer,
    start: Instant,
) -> io::Result<Instant> {
    let end = start + plan.warm_up + plan.duration;
    let mut distances = Distances::new(plan.arrivals, plan.rate_per_s);
    let mut intended = start + distances.next();
    while intended < end {
        timer.until(intended).await?;
        let request = shared.work.borrow_mut().next();
        let Some(request) = request else { return Ok(intended) };
        shared.arrive(Job { intended, request }, plan.waiting_max);
        intended += distances.next();
        // Whoever was woken goes first, or a late loop would send nothing at all.
        if Instant::now() >= intended {
            tokio::task::yield_now().await;
        }
    }
    Ok(end)
}

/// Takes what waits, oldest first, until all is done.
async fn send<W: Work>(shared: Rc<Shared<W>>, index: usize, connection: Connection) {
    let mut connection = Some(connection);
    loop {
        let job = shared.waiting.borrow_mut().pop_front();
        let Some(job) = job else {
            if shared.is_over.get() {
                return;
            }
            shared.idle.borrow_mut().push(index);
            shared.called[index].notified().await;
            continue;
        };
        // From now on: what waits for a connection to be opened again is not forgotten either.
        shared.tally.borrow_mut().in_flight[index] = Some(job.intended);
        let Some(mut open) = shared.take_open(connection.take()).await else {
            shared.not_sent(index, job.intended);
            sleep(RECONNECT_PAUSE).await;
            continue;
        };
        shared.depart(job.intended);
        let judge = |answer: &Answer<'_>| shared.work.borrow_mut().judge(answer);
        let ended = exchange(&mut open, &job.request, judge).await;
        shared.end(index, job.intended, &ended);
        connection = ended.is_kept.then_some(open);
    }
}

impl<W> Shared<W> {
    fn arrive(&self, job: Job, waiting_max: usize) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() < waiting_max {
            waiting.push_back(job);
            if let Some(index) = self.idle.borrow_mut().pop() {
                self.called[index].notify_one();
            }
        } else {
            self.tally.borrow_mut().unsent(job.intended >= self.counted_from);
        }
    }

    /// Waits for the last answers. Closing thousands of idle connections takes tens of milliseconds, in
    /// which nobody would read them.
    async fn rest(&self) {
        while !self.waiting.borrow().is_empty() || self.tally.borrow().is_anything_in_flight() {
            self.ended.notified().await;
        }
    }

    /// This connection if it is still open, or another.
    async fn take_open(&self, connection: Option<Connection>) -> Option<Connection> {
        if let Some(mut connection) = connection
            && connection.is_open()
        {
            return Some(connection);
        }
        let opened = open(self.address).await.ok();
        let mut tally = self.tally.borrow_mut();
        tally.reconnects += u64::from(opened.is_some());
        tally.connect_failures += u64::from(opened.is_none());
        opened
    }

    fn depart(&self, intended: Instant) {
        if intended >= self.counted_from {
            self.tally.borrow_mut().waited.record(intended.elapsed());
        }
    }

    fn not_sent(&self, index: usize, intended: Instant) {
        let mut tally = self.tally.borrow_mut();
        tally.in_flight[index] = None;
        tally.unsent(intended >= self.counted_from);
        self.ended.notify_one();
    }

    fn end(&self, index: usize, intended: Instant, ended: &Ended) {
        let mut tally = self.tally.borrow_mut();
        tally.in_flight[index] = None;
        tally.end(intended, intended >= self.counted_from, ended);
        self.ended.notify_one();
    }

    /// Counts what did not end: in flight is lost, waiting is unsent.
    fn close(self) -> (Tally, W) {
        let mut tally = self.tally.into_inner();
        for intended in std::mem::take(&mut tally.in_flight).into_iter().flatten() {
            let lost = Ended { outcome: Outcome::Lost, bytes_in: 0, bytes_out: 0, is_kept: false };
            tally.end(intended, intended >= self.counted_from, &lost);
        }
        for job in self.waiting.into_inner() {
            tally.unsent(job.intended >= self.counted_from);
        }
        (tally, self.work.into_inner())
    }
}

impl Tally {
    fn end(&mut self, intended: Instant, is_counted: bool, ended: &Ended) {
        if is_counted {
            self.counts.count(ended);
            self.latencies.record(ended.outcome, intended.elapsed());
        } else {
            self.warm_up.count(ended);
        }
    }

    fn is_anything_in_flight(&self) -> bool {
        self.in_flight.iter().any(Option::is_some)
    }

    fn unsent(&mut self, is_counted: bool) {
        self.unsent += u64::from(is_counted);
    }
}

/// The times between one request and the next.
struct Distances {
    mean_s: f64,
    random: Option<StdRng>,
}

impl Distances {
    fn new(arrivals: Arrivals, rate_per_s: f64) -> Self {
        let random = match arrivals {
            Arrivals::Uniform => None,
            Arrivals::Poisson { seed } => Some(StdRng::seed_from_u64(seed)),
        };
        Self { mean_s: 1.0 / rate_per_s, random }
    }

    fn next(&mut self) -> Duration {
        let means = self.random.as_mut().map_or(1.0, |random| {
            // In (0, 1], of which there is always a logarithm.
            -(1.0 - random.random::<f64>()).ln()
        });
        // A rate of almost none would be longer than can be told; an hour is longer than any run.
        Duration::from_secs_f64((self.mean_s * means).min(3_600.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_come_independently_and_the_same_again() {
        let draw = |seed| {
            let mut distances = Distances::new(Arrivals::Poisson { seed }, 1_000.0);
            (0..100_000).map(|_| distances.next().as_secs_f64()).collect::<Vec<_>>()
        };
        let drawn = draw(5);
        assert_eq!(drawn, draw(5));
        assert_ne!(drawn, draw(6));
        let mean = drawn.iter().sum::<f64>() / 1e5;
        let squares = drawn.iter().map(|distance| (distance - mean).powi(2)).sum::<f64>();
        // Of exponential distances the deviation is the mean.
        assert!((mean * 1e3 - 1.0).abs() < 0.02, "mean {mean}");
        assert!(((squares / 1e5).sqrt() * 1e3 - 1.0).abs() < 0.03);
    }
}
