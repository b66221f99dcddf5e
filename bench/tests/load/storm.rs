//! Storm.

use std::time::Duration;

use bench::load::allow_open_files;
use bench::load::storm::{Plan, run};

use crate::always;
use crate::server::{Faults, Server, closed_door, request};

fn plan(address: std::net::SocketAddr) -> Plan {
    Plan {
        address,
        connections: 2_000,
        window: Duration::from_millis(100),
        sources: 3,
        threads: 2,
        answer_max: Duration::from_secs(2),
        drain: Duration::from_secs(5),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_is_answered() {
    allow_open_files(5_000).expect("allowed");
    let (socket, _) = closed_door();
    let server = Server::on(socket.listen(4_096).expect("listening"), Faults::default());
    let plan = plan(server.address);
    let (report, _) = run(plan, always(request("/accept", "x"))).await.expect("run");
    assert_eq!((report.connections, report.refused, report.unopened), (2_000, 0, 0));
    assert_eq!((report.counts.accepted, server.answered()), (2_000, 2_000));
    assert_eq!(report.connect.percentiles().count, 2_000);
    assert!(report.answered_in_time <= 2_000 && report.opened_ms >= 99.0, "{report:?}");
}

#[tokio::test]
async fn those_whom_nobody_answers_are_told_apart() {
    let still = (Duration::ZERO, Duration::from_hours(1));
    let server = Server::start(Faults { stands_still: Some(still), ..Faults::default() }).await;
    let drain = Duration::from_millis(300);
    let plan = Plan { connections: 100, drain, ..plan(server.address) };
    let (report, _) = run(plan, always(request("/accept", ""))).await.expect("run");
    assert_eq!((report.counts.lost, report.counts.total(), report.unopened), (100, 100, 0));
    assert!(report.answered_share() < f64::EPSILON);
}

#[tokio::test]
async fn a_closed_door_is_counted() {
    let (_socket, address) = closed_door();
    let plan = Plan { connections: 50, sources: 1, ..plan(address) };
    let (report, _) = run(plan, always(request("/accept", ""))).await.expect("run");
    assert_eq!((report.refused, report.counts.total()), (50, 0));
}
