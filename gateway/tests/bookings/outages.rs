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

/// The race: patients of a gateway that was killed are back at its port before it has read anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_comes_back_in_a_rush_calls_nothing_lost() -> anyhow::Result<()> {
    let mut clinic = Clinic::open(Plan::of(&[900], 400)).await?;
    clinic.start_worker(false);
    for round in 0..3 {
        clinic.stop_gateway().await?;
        let codes = clinic.start_in_a_rush(&format!("k{round}")).await?;
        for wrong in ["ledger_unavailable", "overloaded"] {
            assert!(!codes.contains_key(wrong), "{codes:?}");
        }
    }
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
    let url = format!("http://{}/v1/bookings/{id}/events", clinic.address);
    let request = reqwest::Client::new().get(url).bearer_auth(&clinic.patients[0].2);
    let mut events = request.send().await?;
    assert!(events.chunk().await?.is_some());
    let started = Instant::now();
    clinic.stop_gateway().await?;
    assert!(started.elapsed() < Duration::from_secs(5));
    // The stream was ended, not cut.
    while events.chunk().await?.is_some() {}
    assert!(reqwest::get(format!("http://{}/v1/time", clinic.address)).await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_rabbitmq_no_quota_is_touched_and_taking_resumes_by_itself() -> anyhow::Result<()> {
    let mut plan = Plan::of(&[9], 2);
    plan.has_proxies = true;
    let clinic = Clinic::open(plan).await?;
    let (rabbit, _) = clinic.lines.as_ref().expect("it has proxies");
    rabbit.cut();
    testkit::eventually("the loss is noticed", Duration::from_secs(5), async || {
        // A new key each time: the repeat of a pending booking is answered "pending" for good.
        let answer = clinic.book(0, clinic.slots[0], &testkit::unique()).await.ok()?;
        assert_ne!(answer.status().1, "queued", "{answer:?}");
        (answer.code() == (503, "broker_unavailable")).then_some(())
    })
    .await?;
    let held = async || {
        let seen = clinic.inventory.inspect(clinic.partition).await.ok();
        seen.and_then(|seen| seen.ledger).map(|head| head.held)
    };
    let before = held().await;
    let answer = clinic.book(1, clinic.slots[0], "k").await?;
    assert_eq!(answer.code(), (503, "broker_unavailable"));
    assert!(!answer.header("retry-after").is_empty());
    assert_eq!(held().await, before);
    rabbit.heal();
    testkit::eventually("bookings are taken again", Duration::from_secs(5), async || {
        let answer = clinic.book(1, clinic.slots[0], "k").await.ok()?;
        (answer.status() == (202, "queued")).then_some(())
    })
    .await
}

/// The confirm is lost: the booking stands in the outbox, and the patient is told the truth.
#[tokio::test(flavor = "multi_thread")]
async fn a_confirm_that_does_not_come_is_pending_within_two_seconds_and_certain_later()
-> anyhow::Result<()> {
    let mut plan = Plan::of(&[9], 1);
    plan.has_proxies = true;
    let clinic = Clinic::open(plan).await?;
    let (rabbit, _) = clinic.lines.as_ref().expect("it has proxies");
    rabbit.stall();
    let started = Instant::now();
    let answer = clinic.book(0, clinic.slots[0], "k").await?;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(answer.status(), (202, "pending"), "{answer:?}");
    rabbit.heal();
    let certain =
        testkit::eventually("the repeat is certain", Duration::from_secs(10), async || {
            let again = clinic.book(0, clinic.slots[0], "k").await.ok()?;
            (again.status() == (202, "queued")).then_some(again)
        })
        .await?;
    assert_eq!(certain.id(), answer.id());
    clinic.start_worker(false);
    let path = format!("/v1/bookings/{}?wait=20", answer.id());
    assert_eq!(clinic.get(0, &path).await?.status(), (200, "booked"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgresql_nobody_is_told_queued_and_taking_resumes_by_itself()
-> anyhow::Result<()> {
    for is_cut in [false, true] {
        let mut plan = Plan::of(&[9], 1);
        plan.has_proxies = true;
        let clinic = Clinic::open(plan).await?;
        let (_, postgres) = clinic.lines.as_ref().expect("it has proxies");
        if is_cut {
            postgres.cut();
        } else {
            postgres.stall();
        }
        testkit::eventually("the loss is noticed", Duration::from_secs(6), async || {
            let started = Instant::now();
            let answer = clinic.book(0, clinic.slots[0], &testkit::unique()).await.ok()?;
            assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
            assert_ne!(answer.status().1, "queued", "{answer:?}");
            let is_noticed = answer.code() == (503, "ledger_unavailable");
            is_noticed.then(|| assert!(!answer.header("retry-after").is_empty()))
        })
        .await?;
        postgres.heal();
        testkit::eventually("it is up again", Duration::from_secs(10), async || {
            let answer = clinic.book(0, clinic.slots[0], &testkit::unique()).await.ok()?;
            // The first wish, made while the loss was not noticed, stands.
            let is_up = matches!(answer.code(), (409, "already_booked") | (202, ""));
            is_up.then_some(())
        })
        .await?;
    }
    Ok(())
}

/// I10: the gateway's memory of having accepted a booking outlives the booking's end.
#[tokio::test(flavor = "multi_thread")]
async fn without_postgresql_who_was_told_the_end_never_hears_queued_again() -> anyhow::Result<()> {
    let mut plan = Plan::of(&[9], 2);
    plan.has_proxies = true;
    let clinic = Clinic::open(plan).await?;
    clinic.start_worker(false);
    let mut told = Vec::new();
    for n in 0..2 {
        let id = clinic.book(n, clinic.slots[0], "k").await?.id().to_owned();
        let done = clinic.get(n, &format!("/v1/bookings/{id}?wait=20")).await?;
        assert_eq!(done.status(), (200, "booked"));
        told.push(id);
    }
    assert_eq!(clinic.cancel(1, &told[1]).await?.status(), (200, "cancelled"));
    clinic.lines.as_ref().expect("it has proxies").1.cut();
    for (n, id) in told.iter().enumerate() {
        for wait in ["", "?wait=1"] {
            let answer = clinic.get(n, &format!("/v1/bookings/{id}{wait}")).await?;
            assert_eq!(answer.code(), (503, "ledger_unavailable"), "{answer:?}");
        }
        let again = clinic.book(n, clinic.slots[0], "k").await?;
        assert_eq!(again.code(), (503, "ledger_unavailable"), "{again:?}");
    }
    Ok(())
}
