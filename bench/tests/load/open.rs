//! Open loop.

use std::time::Duration;

use bench::load::Outcome;
use bench::load::open::{Arrivals, Plan, Report, run};

use crate::server::{Faults, Server, request};
use crate::{always, times};

fn plan(server: &Server) -> Plan {
    Plan {
        address: server.address,
        connections: 32,
        greetings: Vec::new(),
        rate_per_s: 1_000.0,
        arrivals: Arrivals::Uniform,
        warm_up: Duration::ZERO,
        duration: Duration::from_secs(1),
        waiting_max: 10_000,
        drain: Duration::from_secs(5),
    }
}

async fn load(plan: Plan) -> Report {
    run(plan, always(request("/accept", "x"))).await.expect("run").0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_start_as_were_offered() {
    let server = Server::start(Faults::default()).await;
    let warm_up = Duration::from_millis(200);
    let report = load(Plan { warm_up, ..plan(&server) }).await;
    // One may fall on the end.
    assert!((999..=1_000).contains(&report.offered), "{}", report.offered);
    assert!((198..=201).contains(&report.warm_up.accepted), "{}", report.warm_up.accepted);
    assert_eq!((report.counts.accepted, report.unsent), (report.offered, 0));
    assert_eq!(server.answered(), report.offered + report.warm_up.accepted);
    let percentiles = report.latencies.percentiles();
    assert_eq!(percentiles[&Outcome::Accepted].count, report.offered);
    assert!((report.elapsed_s - 1.0).abs() < 1e-6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_come_at_the_rate_on_average() {
    let server = Server::start(Faults::default()).await;
    let arrivals = Arrivals::Poisson { seed: 11 };
    let report = load(Plan { arrivals, ..plan(&server) }).await;
    // Of 1,000 the deviation is 32.
    assert!((850..=1_150).contains(&report.offered), "{}", report.offered);
    assert_eq!(report.counts.accepted, report.offered);
}

/// Without intended starts only the 32 requests in flight would show it: 1 % of 3,000 is 30, and with fewer
/// connections none at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_for_a_second_is_seen_at_p99() {
    let still = (Duration::from_millis(500), Duration::from_millis(1_500));
    let server = Server::start(Faults { stands_still: Some(still), ..Faults::default() }).await;
    let connections = 8;
    let report =
        load(Plan { connections, duration: Duration::from_secs(3), ..plan(&server) }).await;
    assert_eq!((report.counts.total(), report.unsent), (report.offered, 0));
    let accepted = report.latencies.percentiles()[&Outcome::Accepted];
    assert!(accepted.p99_ms >= 900.0, "{accepted:?}");
    // A third of all were meant to start while it stood still, and waited half a second on average.
    assert!(accepted.p90_ms >= 500.0, "{accepted:?}");
    assert!(report.waited.p99_ms >= 900.0, "{:?}", report.waited);
}

#[tokio::test]
async fn what_could_not_be_sent_is_unsent_and_what_is_not_answered_lost() {
    let still = (Duration::ZERO, Duration::from_hours(1));
    let server = Server::start(Faults { stands_still: Some(still), ..Faults::default() }).await;
    let plan = Plan {
        connections: 4,
        waiting_max: 10,
        duration: Duration::from_millis(100),
        drain: Duration::from_millis(100),
        ..plan(&server)
    };
    let report = load(plan).await;
    assert!((99..=100).contains(&report.offered), "{}", report.offered);
    assert_eq!((report.counts.lost, report.counts.total()), (4, 4));
    assert_eq!(report.unsent, report.offered - 4);
    // The first was meant to start 200 ms before the end.
    let lost = report.latencies.percentiles()[&Outcome::Lost];
    assert!(lost.count == 4 && (190.0..4_000.0).contains(&lost.p50_ms), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_when_requests_run_out() {
    let server = Server::start(Faults::default()).await;
    let plan = Plan { duration: Duration::from_mins(1), ..plan(&server) };
    let (report, _) = run(plan, times(request("/", ""), 100)).await.expect("run");
    assert_eq!((report.counts.refused, report.offered, report.unsent), (100, 100, 0));
    assert!((0.09..0.2).contains(&report.elapsed_s), "{}", report.elapsed_s);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_closed_while_idle_costs_no_request() {
    let server = Server::start(Faults { answers_max: Some(5), ..Faults::default() }).await;
    let report = load(plan(&server)).await;
    assert_eq!((report.counts.accepted, report.counts.lost), (report.offered, 0));
    assert!(report.reconnects >= 150, "{}", report.reconnects);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_connection_carries_a_greeting_first_and_it_is_not_counted() {
    let server = Server::start(Faults::default()).await;
    let greetings = vec![request("/accept", "good morning"), request("/accept", "hello")];
    let plan = Plan { greetings, connections: 5, ..plan(&server) };
    let (report, _) = run(plan, times(request("/accept", ""), 8)).await.expect("run");
    assert_eq!((report.counts.accepted, report.counts.total()), (8, 8));
    assert_eq!(server.answered(), 5 + 8);
}

#[tokio::test]
async fn a_server_that_closes_after_a_greeting_is_an_error() {
    let server = Server::start(Faults { answers_max: Some(1), ..Faults::default() }).await;
    let plan = Plan { greetings: vec![request("/", "")], ..plan(&server) };
    assert!(run(plan, times(request("/", ""), 1)).await.is_err());
}

#[tokio::test]
async fn no_rate_is_an_error() {
    let server = Server::start(Faults::default()).await;
    for rate_per_s in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let plan = Plan { rate_per_s, ..plan(&server) };
        assert!(run(plan, times(request("/", ""), 1)).await.is_err());
    }
}
