//! Closed loop.

use std::time::Duration;

use bench::load::closed::{Plan, Report, run};
use bench::load::{Answer, Outcome, Request, Work};

use crate::server::{Faults, Server, closed_door, request};
use crate::{always, judge, times};

async fn load(server: &Server, work: impl Work) -> Report {
    let plan = Plan {
        address: server.address,
        connections: 8,
        warm_up: Duration::ZERO,
        duration: Duration::from_secs(10),
        drain: Duration::from_secs(2),
    };
    run(plan, work).await.expect("run").0
}

#[tokio::test]
async fn every_request_is_counted_once_with_its_bytes() {
    let server = Server::start(Faults::default()).await;
    let (yes, no) = (request("/accept", "yes"), request("/", "no"));
    let bytes_out = 600 * yes.len() as u64 + 400 * no.len() as u64;
    let mut number = 0;
    let next = move || {
        number += 1;
        let bytes = if number % 5 < 3 { &yes } else { &no };
        (number <= 1_000).then(|| Request { bytes: bytes.clone(), tag: number })
    };
    let mut seen = std::collections::BTreeSet::new();
    let check = move |answer: &Answer<'_>| {
        let is_right = answer.body == if answer.tag % 5 < 3 { b"yes".as_slice() } else { b"no" };
        if is_right && seen.insert(answer.tag) { judge(answer) } else { Outcome::Failed }
    };
    let report = load(&server, (next, check)).await;
    let all = report.all();
    assert_eq!((all.accepted, all.refused, all.total()), (600, 400, 1_000));
    assert_eq!(all.bytes_out, bytes_out);
    let bytes_in = 600 * "HTTP/1.1 202 Accepted\r\ncontent-length: 3\r\n\r\nyes".len()
        + 400 * "HTTP/1.1 409 Conflict\r\ncontent-length: 2\r\n\r\nno".len();
    assert_eq!(all.bytes_in, bytes_in as u64);
    assert_eq!((server.answered(), report.reconnects), (1_000, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_in_time_and_tells_warm_up_apart() {
    let server = Server::start(Faults::default()).await;
    let plan = Plan {
        address: server.address,
        connections: 4,
        warm_up: Duration::from_millis(100),
        duration: Duration::from_millis(300),
        drain: Duration::from_secs(2),
    };
    let (report, _) = run(plan, always(request("/accept", "x"))).await.expect("run");
    assert!(report.warm_up.accepted > 0 && report.counts.accepted > 0);
    assert!((0.3..3.0).contains(&report.elapsed_s), "{}", report.elapsed_s);
    assert!(report.late.total() <= 4);
    assert_eq!(report.all().accepted, server.answered());
    assert!(report.per_second(Outcome::Accepted) > 0.0 && report.cpu_us_per_request() > 0.0);
}

#[tokio::test]
async fn a_connection_that_the_server_closes_is_opened_again() {
    let faults = Faults { answers_max: Some(10), ..Faults::default() };
    let server = Server::start(faults).await;
    let report = load(&server, times(request("/accept", ""), 1_000)).await;
    assert_eq!((report.all().accepted, report.all().total()), (1_000, 1_000));
    // 100 connections at least were needed, and 8 were there.
    assert!((92..=100).contains(&report.reconnects), "{}", report.reconnects);
}

#[tokio::test]
async fn a_request_without_an_answer_is_lost_and_not_sent_again() {
    let faults = Faults { hangs_up_at: Some(10), ..Faults::default() };
    let server = Server::start(faults).await;
    let report = load(&server, times(request("/accept", ""), 1_000)).await;
    let all = report.all();
    assert_eq!((all.accepted, all.total()), (server.answered(), 1_000));
    assert!((92..=100).contains(&all.lost), "{}", all.lost);
}

#[tokio::test]
async fn answers_in_pieces_and_long_ones_are_read_whole() {
    let faults = Faults { piece: Some(7), ..Faults::default() };
    let server = Server::start(faults).await;
    assert_eq!(load(&server, times(request("/accept", "in pieces"), 50)).await.all().accepted, 50);
    let server = Server::start(Faults::default()).await;
    let long = "long ".repeat(8_000);
    let expected = long.clone();
    let mut left = 5_u32;
    let next = move || {
        left = left.checked_sub(1)?;
        Some(Request::from(request("/accept", &long)))
    };
    let whole = move |answer: &Answer<'_>| {
        if answer.body == expected.as_bytes() { Outcome::Accepted } else { Outcome::Failed }
    };
    assert_eq!(load(&server, (next, whole)).await.all().accepted, 5);
}

#[tokio::test]
async fn what_is_not_an_answer_has_failed() {
    for nonsense in ["220 ESMTP\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\ntwo"] {
        let faults = Faults { nonsense: Some(nonsense.as_bytes()), ..Faults::default() };
        let server = Server::start(faults).await;
        let all = load(&server, times(request("/accept", ""), 20)).await.all();
        assert_eq!((all.failed, all.total()), (20, 20));
    }
}

#[tokio::test]
async fn a_server_that_stands_still_cannot_hold_the_run() {
    let hour = Duration::from_hours(1);
    let faults = Faults { stands_still: Some((Duration::ZERO, hour)), ..Faults::default() };
    let server = Server::start(faults).await;
    let plan = Plan {
        address: server.address,
        connections: 4,
        warm_up: Duration::ZERO,
        duration: Duration::from_millis(50),
        drain: Duration::from_millis(50),
    };
    let (report, _) = run(plan, always(request("/accept", ""))).await.expect("run");
    assert_eq!((report.late.lost, report.all().total()), (4, 4));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error() {
    let (_socket, address) = closed_door();
    let second = Duration::from_secs(1);
    let plan = Plan { address, connections: 1, warm_up: second, duration: second, drain: second };
    assert!(run(plan, always(request("/", ""))).await.is_err());
}
