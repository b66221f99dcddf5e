//! Clients that are slow, many, or rude.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::clinic::{Clinic, Plan};

fn door(args: &[&str]) -> Plan {
    let mut plan = Plan::of(&[9], 1);
    plan.args.extend(args.iter().map(|&arg| arg.to_owned()));
    plan
}

/// Reads to the end of the connection and returns how long that took.
async fn until_closed(stream: &mut TcpStream) -> anyhow::Result<(Duration, String)> {
    let started = Instant::now();
    let mut text = Vec::new();
    let read = stream.read_to_end(&mut text);
    // A reset is an end as well.
    let _ = tokio::time::timeout(Duration::from_secs(10), read).await?;
    Ok((started.elapsed(), String::from_utf8_lossy(&text).into_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_heads_slow_bodies_and_idlers_are_cut() -> anyhow::Result<()> {
    let clinic = Clinic::open(door(&[
        "--head-timeout-ms=300",
        "--idle-timeout-ms=1500",
        "--body-stall-timeout-ms=300",
    ]))
    .await?;
    let address = clinic.address;

    let mut silent = TcpStream::connect(address).await?;
    let (took, _) = until_closed(&mut silent).await?;
    assert!(took < Duration::from_millis(1_200), "{took:?}");

    let mut dripping = TcpStream::connect(address).await?;
    let started = Instant::now();
    let head = "GET /v1/time HTTP/1.1\r\nhost: x\r\nx-more: ";
    dripping.write_all(head.as_bytes()).await?;
    while started.elapsed() < Duration::from_secs(5) && dripping.write_all(b"a").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());

    let mut stalling = TcpStream::connect(address).await?;
    let token = &clinic.patients[0].2;
    let head = format!(
        "POST /v1/bookings HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         idempotency-key: k\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{{"
    );
    stalling.write_all(head.as_bytes()).await?;
    let (_, text) = until_closed(&mut stalling).await?;
    assert!(text.starts_with("HTTP/1.1 408"), "{text}");

    let mut idle = TcpStream::connect(address).await?;
    idle.write_all(b"GET /v1/time HTTP/1.1\r\nhost: x\r\n\r\n").await?;
    let (took, text) = until_closed(&mut idle).await?;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(took > Duration::from_secs(1), "{took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_outlives_the_deadline_of_heads() -> anyhow::Result<()> {
    let clinic = Clinic::open(door(&["--head-timeout-ms=300"])).await?;
    let id = clinic.book(0, clinic.slots[0], "k").await?.id().to_owned();
    for _ in 0..2 {
        let answer = clinic.get(0, &format!("/v1/bookings/{id}?wait=1")).await?;
        assert_eq!(answer.status(), (200, "queued"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_broken_chunks_is_malformed_and_not_too_large() -> anyhow::Result<()> {
    let clinic = Clinic::open(door(&[])).await?;
    let token = &clinic.patients[0].2;
    let request = format!(
        "POST /v1/bookings HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         idempotency-key: k\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\nzz\r\n{{\r\n0\r\n\r\n"
    );
    let mut stream = TcpStream::connect(clinic.address).await?;
    stream.write_all(request.as_bytes()).await?;
    let (_, text) = until_closed(&mut stream).await?;
    assert!(text.starts_with("HTTP/1.1 400"), "{text}");
    assert!(text.contains("\"malformed_json\"") && text.contains("\"pointer\":\"\""), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_over_the_cap_is_told_so() -> anyhow::Result<()> {
    let clinic = Clinic::open(door(&["--connections-max=1", "--head-timeout-ms=60000"])).await?;
    let held = TcpStream::connect(clinic.address).await?;
    let text = testkit::eventually("a refused connection", Duration::from_secs(5), async || {
        let mut stream = TcpStream::connect(clinic.address).await.ok()?;
        let (_, said) = until_closed(&mut stream).await.ok()?;
        said.starts_with("HTTP/1.1 503").then_some(said)
    })
    .await?;
    assert!(text.contains("\"overloaded\""), "{text}");
    drop(held);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_hides_in_the_body_of_another() -> anyhow::Result<()> {
    let clinic = Clinic::open(door(&[])).await?;
    let hidden = "GET /v1/time HTTP/1.1\r\nhost: x\r\n\r\n";
    let ask = async |lines: &str, body: &str| {
        let head = "POST /v1/tokens HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
        let mut stream = TcpStream::connect(clinic.address).await?;
        stream.write_all(format!("{head}{lines}\r\n{body}").as_bytes()).await?;
        let (took, text) = until_closed(&mut stream).await?;
        anyhow::ensure!(took < Duration::from_secs(4), "{lines:?}: {took:?} {text}");
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{lines:?}: {text}");
        Ok(text)
    };
    // Two lengths: whichever a proxy believes, nothing after the first answer is read.
    let chunked = "transfer-encoding: chunked\r\n";
    for lines in [
        format!("content-length: 5\r\n{chunked}"),
        format!("{chunked}content-length: 5\r\n"),
        format!("content-length: 500\r\n{chunked}"),
        chunked.to_owned(),
    ] {
        let text = ask(&lines, &format!("0\r\n\r\n{hidden}")).await?;
        assert!(text.starts_with("HTTP/1.1 400") && text.contains("malformed_json"), "{text}");
        assert!(text.contains("connection: close"), "{text}");
    }
    for lines in [
        "content-length: 2\r\ncontent-length: 3\r\n",
        "content-length: 2, 2\r\n",
        "content-length: +2\r\n",
        "content-length: -1\r\n",
        "content-length: 99999999999999999999\r\n",
        "content-length : 2\r\n",
        "content-length: 2\r\n folded: x\r\n",
        "content-\0length: 2\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
    ] {
        let text = ask(lines, &format!("{{}}{hidden}")).await?;
        assert!(text.starts_with("HTTP/1.1 400"), "{lines:?}: {text}");
    }
    for chunk in ["zz\r\n{}", "-1\r\n{}", "FFFFFFFFFFFFFFFFF\r\n{}", " 2\r\n{}", "2\r\n{}x\r\n"] {
        let text = ask(chunked, &format!("{chunk}\r\n0\r\n\r\n{hidden}")).await?;
        assert!(text.starts_with("HTTP/1.1 400"), "{chunk:?}: {text}");
    }
    Ok(())
}
