//! Servers that are away: 503 in time, nothing lost.

use std::time::Duration;

use tokio::time::Instant;

use crate::clinic::{Clinic, Plan};

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_the_answer_is_503_in_time_and_a_known_booking_is_not_forgotten()
-> anyhow::Result<()> {
    let mut clinic = Clinic::open(Plan::of(&[9], 2)).await?;
    let id = clinic.book(0, clinic.slots[0], "k").await?.id().to_owned();
    clinic.redis.kill().await?;
    let started = Instant::now();
    let answer = clinic.book(1, clinic.slots[0], "k").await?;
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(answer.code(), (503, "inventory_unavailable"), "{answer:?}");
    assert!(!answer.header("retry-after").is_empty());
    let known = clinic.get(0, &format!("/v1/bookings/{id}")).await?;
    assert_eq!(known.status(), (200, "queued"));
    clinic.start_worker(false);
    let path = format!("/v1/bookings/{id}?wait=20");
    assert_eq!(clinic.get(0, &path).await?.status(), (200, "booked"));
    Ok(())
}

/// G3: a confirm alone is no promise. The epoch was sealed while the booking was on its way.
#[tokio::test(flavor = "multi_thread")]
async fn under_a_sealed_epoch_nobody_is_told_queued() -> anyhow::Result<()> {
    let clinic = Clinic::open(Plan::of(&[9], 1)).await?;
    let rows = clinic.ledger.epochs().await?;
    let row = rows.iter().rfind(|row| row.partition == clinic.partition);
    let row = row.expect("an epoch is open");
    // Another reconciler opens the next epoch in PostgreSQL; Redis still sells under this one.
    let nonce = booking::Nonce::from_random(8);
    clinic.ledger.open_epoch(clinic.partition, row.epoch, &row.term, &nonce).await?;
    let answer = clinic.book(0, clinic.slots[0], "k").await?;
    assert_ne!(answer.status().1, "queued", "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stops_finishes_what_it_began() -> anyhow::Result<()> {
    let mut clinic = Clinic::open(Plan::of(&[9], 1)).await?;
    let id = clinic.book(0, clinic.slots[0], "k").await?.id().to_owned();
    let url = format!("http://{}/v1/bookings/{id}?wait=20", clinic.address);
    let poll = reqwest::Client::new().get(url).bearer_auth(&clinic.patients[0].2).send();
    let poll = tokio::spawn(poll);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let started = Instant::now();
    clinic.stop_gateway().await?;
    assert!(started.elapsed() < Duration::from_secs(5));
    let answer = poll.await??;
    assert_eq!(answer.status(), 200);
    assert!(reqwest::get(format!("http://{}/v1/time", clinic.address)).await.is_err());
    Ok(())
}
