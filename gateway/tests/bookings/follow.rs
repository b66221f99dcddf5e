//! Following a booking to its end.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::clinic::{Clinic, Plan};

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_ends_with_the_answer_or_with_its_time() -> anyhow::Result<()> {
    let clinic = Clinic::open(Plan::of(&[9], 1)).await?;
    let id = clinic.book(0, clinic.slots[0], "k").await?.id().to_owned();
    let started = Instant::now();
    let waiting = clinic.get(0, &format!("/v1/bookings/{id}?wait=1")).await?;
    assert_eq!(waiting.status(), (200, "queued"));
    assert!(started.elapsed() >= Duration::from_millis(900));
    clinic.start_worker(false);
    let done = clinic.get(0, &format!("/v1/bookings/{id}?wait=20")).await?;
    assert_eq!(done.status(), (200, "booked"));
    let bad = clinic.get(0, &format!("/v1/bookings/{id}?wait=21")).await?;
    assert_eq!(bad.code(), (400, "invalid_field"));
    let bad = clinic.get(0, &format!("/v1/bookings/{id}?wait=x")).await?;
    assert_eq!(bad.code(), (400, "invalid_field"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_tell_the_way_and_end_with_the_answer() -> anyhow::Result<()> {
    let clinic = Clinic::open(Plan::of(&[9], 1)).await?;
    let id = clinic.book(0, clinic.slots[0], "k").await?.id().to_owned();
    let url = format!("http://{}/v1/bookings/{id}/events", clinic.address);
    let request = reqwest::Client::new().get(url).bearer_auth(&clinic.patients[0].2);
    let mut response = request.send().await?;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let first = response.chunk().await?.unwrap_or_default();
    let first = String::from_utf8(first.to_vec())?;
    assert!(first.starts_with("event: status\ndata: {"), "{first}");
    assert!(first.contains("\"queued\""), "{first}");
    clinic.start_worker(false);
    let mut rest = String::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Some(chunk) = tokio::time::timeout_at(deadline, response.chunk()).await?? {
        rest.push_str(std::str::from_utf8(&chunk)?);
    }
    let last = rest.trim_end().rsplit("\n\n").next().unwrap_or_default();
    assert!(last.contains("\"booked\""), "{rest}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_gateway_tells_what_it_can_and_never_not_found() -> anyhow::Result<()> {
    let mut clinic = Clinic::open(Plan::of(&[9], 1)).await?;
    let id = clinic.book(0, clinic.slots[0], "k").await?.id().to_owned();
    clinic.stop_gateway().await?;
    clinic.start_gateway().await?;
    let path = format!("/v1/bookings/{id}");
    assert_eq!(clinic.get(0, &path).await?.status(), (200, "pending"));
    clinic.start_worker(false);
    let done = clinic.get(0, &format!("{path}?wait=20")).await?;
    assert_eq!(done.status(), (200, "booked"));
    Ok(())
}

/// Redis is lost after a promise, and neither the reconciler nor this gateway has noticed yet: the
/// booking is in the queue alone.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_promised_before_redis_was_emptied_is_never_not_found() -> anyhow::Result<()> {
    let mut clinic = Clinic::open(Plan::of(&[9], 1)).await?;
    let booked = clinic.book(0, clinic.slots[0], "k").await?;
    assert_eq!(booked.status(), (202, "queued"));
    let path = format!("/v1/bookings/{}", booked.id());
    clinic.stop_gateway().await?;
    clinic.start_gateway().await?;
    let mut redis = TcpStream::connect(("127.0.0.1", clinic.redis.port())).await?;
    redis.write_all(b"FLUSHALL\r\n").await?;
    let mut answer = [0; 5];
    redis.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"+OK\r\n");

    assert_eq!(clinic.get(0, &path).await?.code(), (503, "quota_recovering"));
    clinic.start_worker(false);
    testkit::eventually("the row", Duration::from_secs(10), async || {
        (clinic.get(0, &path).await.ok()?.status() == (200, "booked")).then_some(())
    })
    .await
}
