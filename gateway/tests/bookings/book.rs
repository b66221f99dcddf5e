//! Booking, replaying, cancelling.

use std::sync::Arc;
use std::time::Duration;

use booking::rules::Limits;
use booking::{Booking, BookingId, Clock, Digest, SystemClock};
use inventory::Hold;
use ledger::booking_row::Cancelled;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::clinic::{Clinic, Plan};

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_becomes_an_appointment_and_a_cancel_gives_the_place_back() -> anyhow::Result<()> {
    let clinic = Clinic::open(Plan::of(&[1], 2)).await?;
    clinic.start_worker(true);
    let slot = clinic.slots[0];
    let answer = clinic.book(0, slot, "k").await?;
    assert_eq!(answer.status(), (202, "queued"), "{answer:?}");
    assert_eq!(answer.header("location"), format!("/v1/bookings/{}", answer.id()));
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.json["queue"]["position"], 1);
    assert!(answer.json["accepted_at"].as_str().is_some_and(|at| at.ends_with("+08:00")));

    let path = format!("/v1/bookings/{}", answer.id());
    let booked = clinic.get(0, &format!("{path}?wait=20")).await?;
    assert_eq!((booked.status(), &booked.json["number"]), ((200, "booked"), &1.into()));
    assert!(booked.json["persisted_at"].is_string());

    let stranger = clinic.get(1, &path).await?;
    assert_eq!(stranger.code(), (404, "not_found"));
    assert_eq!(clinic.cancel(1, answer.id()).await?.code(), (404, "not_found"));
    let list = clinic.get(0, "/v1/bookings?limit=1").await?;
    assert_eq!(list.json["items"][0]["id"], answer.id());
    assert!(list.json.get("next_cursor").is_none());

    assert_eq!(clinic.cancel(0, answer.id()).await?.status(), (200, "cancelled"));
    assert_eq!(clinic.cancel(0, answer.id()).await?.status(), (200, "cancelled"));
    // The key still stands for the cancelled booking: it does not book again.
    assert_eq!(clinic.book(0, slot, "k").await?.status(), (200, "cancelled"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_given_back_is_sold_within_a_second_though_all_heard_sold_out() -> anyhow::Result<()>
{
    let clinic = Clinic::open(Plan::of(&[1], 3)).await?;
    clinic.start_worker(true);
    let slot = clinic.slots[0];
    let first = clinic.book(0, slot, "k").await?;
    let path = format!("/v1/bookings/{}?wait=20", first.id());
    assert_eq!(clinic.get(0, &path).await?.status(), (200, "booked"));
    testkit::eventually("sold out", Duration::from_secs(2), async || {
        let answer = clinic.book(1, slot, &testkit::unique()).await.ok()?;
        (answer.code() == (409, "slot_exhausted")).then_some(())
    })
    .await?;
    assert_eq!(clinic.cancel(0, first.id()).await?.status(), (200, "cancelled"));
    testkit::eventually("the place is sold again", Duration::from_secs(1), async || {
        let answer = clinic.book(1, slot, &testkit::unique()).await.ok()?;
        (answer.status() == (202, "queued")).then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_again_gets_the_same_booking_whether_here_or_after_a_restart()
-> anyhow::Result<()> {
    let mut clinic = Clinic::open(Plan::of(&[1, 1], 2)).await?;
    let (slot, other) = (clinic.slots[0], clinic.slots[1]);
    let first = clinic.book(0, slot, "k").await?;
    let again = clinic.book(0, slot, "k").await?;
    assert_eq!((again.status(), again.id()), ((202, "queued"), first.id()));
    assert_eq!(clinic.book(0, other, "k").await?.code(), (422, "idempotency_key_reused"));
    assert_eq!(clinic.book(0, other, "new").await?.code(), (409, "already_booked"));

    clinic.stop_gateway().await?;
    clinic.start_gateway().await?;
    // The slot is sold out and known to be, but a winner's repeat is not a loser's try.
    for _ in 0..5 {
        assert_eq!(clinic.book(1, slot, "mine").await?.code(), (409, "slot_exhausted"));
    }
    testkit::eventually("a refusal from memory is sure", Duration::from_secs(2), async || {
        let answer = clinic.book(1, slot, "mine").await.ok()?;
        (answer.code() == (409, "slot_exhausted")).then_some(())
    })
    .await?;
    let after = clinic.book(0, slot, "k").await?;
    assert_eq!((after.status(), after.id()), ((202, "queued"), first.id()));
    clinic.start_worker(false);
    let path = format!("/v1/bookings/{}?wait=20", first.id());
    assert_eq!(clinic.get(0, &path).await?.status(), (200, "booked"));
    assert_eq!(clinic.book(0, slot, "k").await?.status(), (200, "booked"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_clicks_at_once_book_once() -> anyhow::Result<()> {
    let clinic = Arc::new(Clinic::open(Plan::of(&[5], 1)).await?);
    let clicks = (0..100).map(|_| {
        let clinic = Arc::clone(&clinic);
        tokio::spawn(async move { clinic.book(0, clinic.slots[0], "k").await })
    });
    let mut ids = Vec::new();
    for click in clicks.collect::<Vec<_>>() {
        let answer = click.await??;
        assert_eq!(answer.status, 202, "{answer:?}");
        ids.push(answer.id().to_owned());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_sent_for_several_sessions_at_once_stands_for_one_of_them() -> anyhow::Result<()> {
    let mut plan = Plan::of(&[50, 50, 50], 20);
    plan.has_afternoon = true;
    let clinic = Arc::new(Clinic::open(plan).await?);
    for n in 0..20 {
        let wishes = clinic.slots.clone().into_iter().map(|slot| {
            let clinic = Arc::clone(&clinic);
            tokio::spawn(async move { (slot, clinic.book(n, slot, "k").await) })
        });
        let mut first = Vec::new();
        for wish in wishes.collect::<Vec<_>>() {
            let (slot, answer) = wish.await?;
            let answer = answer?;
            match answer.code() {
                (202, _) => first.push((slot, answer.id().to_owned())),
                code => assert_eq!(code, (422, "idempotency_key_reused"), "{answer:?}"),
            }
        }
        assert_eq!(first.len(), 1, "{first:?}");
        for slot in &clinic.slots {
            let again = clinic.book(n, *slot, "k").await?;
            let is_first = *slot == first[0].0;
            let expected = if is_first { (202, "") } else { (422, "idempotency_key_reused") };
            assert_eq!(again.code(), expected);
        }
    }
    Ok(())
}

/// The race: two gateways accept different wishes under one key before either has a row.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_two_gateways_took_for_two_wishes_is_answered_alike_by_both()
-> anyhow::Result<()> {
    let mut plan = Plan::of(&[5], 1);
    plan.has_afternoon = true;
    let mut clinic = Clinic::open(plan).await?;
    let slots = clinic.slots.clone();
    let first = clinic.book(0, slots[0], "k").await?;
    let (one, _first_stops_last) = (clinic.address, clinic.stop.clone().drop_guard());
    clinic.start_gateway().await?;
    let two = clinic.address;
    let second = clinic.book(0, slots[1], "k").await?;
    assert_eq!((first.status, second.status), (202, 202));
    clinic.start_worker(false);
    // Not asked of a gateway: it would learn what the other one knows.
    let ids = [first.id().parse()?, second.id().parse()?];
    testkit::eventually("both are final", Duration::from_secs(20), async || {
        (clinic.ledger.find_bookings(&ids).await.ok()?.len() == 2).then_some(())
    })
    .await?;
    testkit::eventually("both gateways agree", Duration::from_secs(5), async || {
        let mut answers = Vec::new();
        for slot in &slots {
            for gateway in [one, two] {
                let answer = clinic.book_at(gateway, 0, *slot, "k").await.ok()?;
                answers.push((answer.status, answer.id().to_owned()));
            }
        }
        let mut statuses = [answers[0].0, answers[2].0];
        statuses.sort_unstable();
        let agree = answers[0] == answers[1] && answers[2] == answers[3];
        (agree && statuses == [200, 422]).then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn more_wishes_than_places_are_all_answered_and_no_place_is_sold_twice() -> anyhow::Result<()>
{
    let clinic = Arc::new(Clinic::open(Plan::of(&[7, 3], 200)).await?);
    clinic.start_worker(false);
    let wishes = (0..200).map(|n| {
        let clinic = Arc::clone(&clinic);
        tokio::spawn(async move {
            // As clients do: what is 503 on a busy machine is asked again under the same key.
            testkit::eventually("an answer", Duration::from_secs(20), async || {
                let answer = clinic.book(n, clinic.slots[n % 2], "k").await.ok()?;
                (answer.status != 503).then_some(answer)
            })
            .await
        })
    });
    let (mut won, mut lost) = (0, 0);
    for wish in wishes.collect::<Vec<_>>() {
        match wish.await??.code() {
            (200 | 202, _) => won += 1,
            (409, "slot_exhausted") => lost += 1,
            other => anyhow::bail!("{other:?}"),
        }
    }
    assert_eq!((won, lost), (10, 190));
    Ok(())
}

/// The race: the client hangs up between its request and the answer, which cancels the handler.
#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_after_asking_is_booked_all_the_same() -> anyhow::Result<()> {
    let clinic = Clinic::open(Plan::of(&[20], 20)).await?;
    clinic.start_worker(false);
    for (_, patient, token) in &clinic.patients {
        let body = serde_json::json!({"slot_id": clinic.slots[0], "patient_id": patient});
        let (address, body) = (clinic.address, body.to_string());
        let request = format!(
            "POST /v1/bookings HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             idempotency-key: k\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        // A little later each time: the cut falls on another step.
        let pause = Duration::from_micros(50 * patient.get().unsigned_abs());
        tokio::time::sleep(pause).await;
        drop(stream);
    }
    let accounts: Vec<_> = clinic.patients.iter().map(|(account, ..)| *account).collect();
    testkit::eventually("no hold is left behind", Duration::from_secs(10), async || {
        let head = clinic.inventory.inspect(clinic.partition).await.ok()?.ledger?;
        let mut booked = 0;
        for account in &accounts {
            booked += clinic.ledger.bookings_of_account(*account, None, 5).await.ok()?.len();
        }
        (head.held > 0 && u64::try_from(booked).ok()? == head.held).then_some(())
    })
    .await
}

/// Race: memory follows PostgreSQL by half a second. Meanwhile another gateway takes a patient's
/// place back, gives another, and the request for that one is repeated here.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_gateway_just_gave_is_not_refused_for_what_it_took_back() -> anyhow::Result<()>
{
    let mut plan = Plan::of(&[900], 1);
    plan.has_afternoon = true;
    plan.limits = Limits { per_day_max: Some(1), ..Limits::default() };
    let clinic = Clinic::open(plan).await?;
    clinic.start_worker(false);
    let (slot, other) = (clinic.slots[0], clinic.slots[1]);
    let (account, patient, _) = clinic.patients[0];
    let first = clinic.book(0, slot, "old").await?;
    let path = format!("/v1/bookings/{}?wait=20", first.id());
    assert_eq!(clinic.get(0, &path).await?.status(), (200, "booked"));
    testkit::eventually("the booking is in memory", Duration::from_secs(2), async || {
        let answer = clinic.book(0, other, &testkit::unique()).await.ok()?;
        (answer.code() == (409, "limit_reached")).then_some(())
    })
    .await?;

    let Cancelled::Done(row) = clinic.ledger.cancel(first.id().parse()?, account).await? else {
        anyhow::bail!("not cancelled");
    };
    clinic.inventory.settle(clinic.partition, &[(row.booking.clone(), false)]).await?;
    let id = BookingId::from(row.booking.id.get() + 1);
    let (key, request) = (Digest::of_key("new"), row.booking.request);
    let second = Booking { id, key, request, patient, ..row.booking };
    let held = clinic.inventory.hold(clinic.partition, &second, SystemClock.now()).await?;
    assert!(matches!(held, Hold::Held { .. }), "{held:?}");

    let again = clinic.book(0, slot, "new").await?;
    assert_eq!((again.status, again.id()), (202, id.to_string().as_str()), "{again:?}");
    Ok(())
}
