//! Following a booking to its end.

use std::sync::Arc;
use std::time::Duration;

use booking::BookingId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
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
    assert_eq!(redis(&clinic, "FLUSHALL").await?, "+OK\r\n");

    assert_eq!(clinic.get(0, &path).await?.code(), (503, "quota_recovering"));
    clinic.start_worker(false);
    testkit::eventually("the row", Duration::from_secs(10), async || {
        (clinic.get(0, &path).await.ok()?.status() == (200, "booked")).then_some(())
    })
    .await
}

/// Sends a command of one short answer.
async fn redis(clinic: &Clinic, command: &str) -> anyhow::Result<String> {
    let mut redis = TcpStream::connect(("127.0.0.1", clinic.redis.port())).await?;
    redis.write_all(format!("{command}\r\n").as_bytes()).await?;
    let mut answer = [0; 64];
    let length = redis.read(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

/// The race: a query for the count of changes is on its way when another gateway's cancel is answered,
/// and who polls after that shares its answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_poll_after_another_gateways_cancel_never_says_booked() -> anyhow::Result<()> {
    const CANCELLED: usize = 60;
    const POLLERS: usize = 8;
    let patients = u32::try_from(CANCELLED + POLLERS)?;
    let clinic = Arc::new(Clinic::open(Plan::of(&[patients], patients)).await?);
    clinic.start_worker(false);
    let mut ids = Vec::new();
    for n in 0..CANCELLED + POLLERS {
        ids.push(clinic.book(n, clinic.slots[0], "k").await?.id().to_owned());
    }
    let mut pollers = JoinSet::new();
    for (n, id) in ids.iter().enumerate().skip(CANCELLED) {
        let (clinic, path) = (Arc::clone(&clinic), format!("/v1/bookings/{id}"));
        pollers.spawn(async move { while clinic.get(n, &path).await.is_ok() {} });
    }
    for (n, id) in ids[..CANCELLED].iter().enumerate() {
        let path = format!("/v1/bookings/{id}");
        let booked = clinic.get(n, &format!("{path}?wait=20")).await?;
        assert_eq!(booked.status(), (200, "booked"));
        // Remembered from here on.
        assert_eq!(clinic.get(n, &path).await?.status(), (200, "booked"));
        let id: BookingId = id.parse()?;
        clinic.ledger.cancel(id, clinic.patients[n].0).await?;
        assert_eq!(clinic.get(n, &path).await?.status(), (200, "cancelled"), "booking {n}");
    }
    pollers.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stands_further_back_is_told_to_come_back_later() -> anyhow::Result<()> {
    let clinic = Clinic::open(Plan::of(&[9], 2)).await?;
    let next = clinic.book(0, clinic.slots[0], "k").await?;
    let ledger = format!("{{p{}}}:ledger", clinic.partition);
    // As if a hundred others had come in between.
    redis(&clinic, &format!("HINCRBY {ledger} held 100")).await?;
    let last = clinic.book(1, clinic.slots[0], "k").await?;
    let told = [next.header("retry-after"), last.header("retry-after")];
    assert_eq!(told, ["1", "1"], "nobody knows yet how fast the queue moves");
    let paths = [&next, &last].map(|answer| format!("/v1/bookings/{}", answer.id()));
    // The queue moves, by about ten in a second.
    let mut told = (0, 0);
    for _ in 0..20 {
        redis(&clinic, &format!("HINCRBY {ledger} settled 1")).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let [next, last] = [clinic.get(0, &paths[0]).await?, clinic.get(1, &paths[1]).await?];
        assert_eq!([next.status(), last.status()], [(200, "queued"); 2]);
        told = (next.header("retry-after").parse()?, last.header("retry-after").parse()?);
    }
    assert_eq!(told.0, 1);
    assert!((5..=30).contains(&told.1), "{told:?}");
    clinic.start_worker(false);
    let done = clinic.get(0, &format!("{}?wait=20", paths[0])).await?;
    assert_eq!((done.status(), done.header("retry-after")), ((200, "booked"), ""));
    Ok(())
}
