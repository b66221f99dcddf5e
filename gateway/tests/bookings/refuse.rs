//! Every bad input has its own answer.

use std::sync::Arc;
use std::time::Duration;

use booking::rules::Limits;
use booking::snowflake::{Mint, Minted, WorkerId};
use booking::{Clock, Digest, Epoch, SystemClock, UnixMs};
use gateway::admission::Wish;
use inventory::Hold;

use crate::clinic::{Clinic, Plan, Release};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_is_pointed_at() -> anyhow::Result<()> {
    let clinic = Clinic::open(Plan::of(&[1], 2)).await?;
    let token = clinic.patients[0].2.clone();
    let (slot, patient) = (clinic.slots[0], clinic.patients[0].1);
    let key = [("idempotency-key", "k")];
    let good = format!(r#"{{"slot_id":"{slot}","patient_id":"{patient}"}}"#);
    for (body, expected, pointer) in [
        ("{".to_owned(), (400, "malformed_json"), ""),
        (format!(r#"{{"slot_id":"{slot}"}}"#), (400, "invalid_field"), "/patient_id"),
        (
            good.replace('}', &format!(",\"slot_id\":\"{slot}\"}}")),
            (400, "invalid_field"),
            "/slot_id",
        ),
        ("\"x\"".to_owned(), (400, "invalid_field"), ""),
        (good.replace('}', ",\"x\":1}"), (400, "invalid_field"), "/x"),
        (good.replace(&format!("\"{slot}\""), "\"0\""), (400, "invalid_field"), "/slot_id"),
        (good.replace(&format!("\"{slot}\""), "12"), (400, "invalid_field"), "/slot_id"),
        (format!("{good}{}", " ".repeat(5_000)), (413, "body_too_large"), ""),
    ] {
        let answer = clinic.post(&token, &key, &body).await?;
        assert_eq!(answer.code(), expected, "{body}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.json["instance"], answer.header("x-request-id"));
        assert_eq!(answer.json["errors"][0]["pointer"], pointer, "{answer:?}");
        let detail = answer.json["errors"][0]["detail"].as_str().unwrap_or_default();
        assert!(!detail.is_empty() && !detail.contains("struct"), "{detail}");
    }
    let answer = clinic.post(&token, &[], &good).await?;
    assert_eq!(answer.code(), (400, "idempotency_key_missing"));
    let answer = clinic.post(&token, &[("idempotency-key", "a b")], &good).await?;
    assert_eq!(answer.code(), (400, "idempotency_key_malformed"));
    let http = reqwest::Client::new();
    let url = format!("http://{}/v1/bookings", clinic.address);
    let plain = http.post(&url).bearer_auth(&token).header("idempotency-key", "k");
    assert_eq!(plain.body(good.clone()).send().await?.status(), 415);
    assert_eq!(http.put(&url).send().await?.status(), 405);
    assert_eq!(http.get(format!("{url}/x/y/z")).send().await?.status(), 404);
    for bad in ["", "x", &token[..token.len() - 3]] {
        let answer = clinic.post(bad, &key, &good).await?;
        assert_eq!(answer.code(), (401, "unauthorized"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn someone_elses_patient_is_like_none() -> anyhow::Result<()> {
    let clinic = Clinic::open(Plan::of(&[1], 2)).await?;
    let (token, slot) = (&clinic.patients[0].2, clinic.slots[0]);
    let ask = async |patient: String| {
        let body = format!(r#"{{"slot_id":"{slot}","patient_id":"{patient}"}}"#);
        clinic.post(token, &[("idempotency-key", "k"), ("x-request-id", "same")], &body).await
    };
    let theirs = ask(clinic.patients[1].1.to_string()).await?;
    let nobodys = ask("999999999".into()).await?;
    assert_eq!(theirs.code(), (404, "not_found"));
    assert_eq!(theirs.json, nobodys.json);
    let unknown = clinic.get(0, "/v1/bookings/9223372036854775807").await?;
    assert_eq!(unknown.code(), (404, "not_found"));
    assert_eq!(clinic.get(0, "/v1/bookings/x").await?.code(), (404, "not_found"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_sells_only_in_its_window() -> anyhow::Result<()> {
    let mut plan = Plan::of(&[9], 2);
    plan.release = Release::OpensIn(1_500);
    let mut clinic = Clinic::open(plan).await?;
    let slot = clinic.slots[0];
    let early = clinic.book(0, slot, "k").await?;
    assert_eq!(early.code(), (409, "release_not_open"));
    assert!(early.json["opens_at"].as_str().is_some_and(|at| at.ends_with("+08:00")), "{early:?}");
    let opens_at: jiff::Timestamp = early.json["opens_at"].as_str().unwrap_or_default().parse()?;
    assert!(opens_at.as_millisecond() > SystemClock.now().0 - 5_000);
    // From the opening on, and not before, the first who asks is served: memory does not hold it up.
    let answer = loop {
        let answer = clinic.book(0, slot, "k").await?;
        if answer.status != 409 {
            break answer;
        }
        assert!(SystemClock.now().0 < opens_at.as_millisecond() + 200, "opened late");
    };
    assert_eq!(answer.status(), (202, "queued"));
    assert!(SystemClock.now().0 >= opens_at.as_millisecond());

    for (release, paused, code) in
        [(Release::Open, true, "release_paused"), (Release::Ended, false, "release_closed")]
    {
        clinic.set_window(release, paused).await?;
        testkit::eventually(code, Duration::from_secs(1), async || {
            let answer = clinic.book(1, slot, "new").await.ok()?;
            (answer.code() == (409, code)).then_some(())
        })
        .await?;
        // A winner's repeat is answered all the same.
        assert_eq!(clinic.book(0, slot, "k").await?.status(), (202, "queued"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_has_begun_is_not_booked_and_who_came_before_is_answered() -> anyhow::Result<()>
{
    let mut plan = Plan::of(&[9, 9], 3);
    plan.starts_in_ms = -1_800_000;
    let clinic = Clinic::open(plan).await?;
    let (begun, next) = (clinic.slots[0], clinic.slots[1]);
    // Booked before it began, through another gateway: this one knows nothing of it.
    let (account, patient, _) = clinic.patients[0];
    let now = SystemClock.now();
    let mint = Mint::new(WorkerId::new(9), UnixMs(0), now.plus_ms(9_000), Arc::new(SystemClock));
    let Minted::Id(id) = mint.mint(clinic.partition) else { anyhow::bail!("no id") };
    let wish = Wish::new(account, begun, patient, Digest::of_key("k"));
    let booking = wish.booking(id, Epoch(1), now);
    let held = clinic.inventory.hold(clinic.partition, &booking, now).await?;
    assert!(matches!(held, Hold::Held { .. }), "{held:?}");

    for n in 1..=5 {
        let answer = clinic.book(1 + n % 2, begun, &format!("k{n}")).await?;
        assert_eq!(answer.code(), (409, "slot_begun"), "{answer:?}");
    }
    let again = clinic.book(0, begun, "k").await?;
    assert_eq!((again.status(), again.id()), ((202, "queued"), id.to_string().as_str()));
    assert_eq!(clinic.book(1, next, "k").await?.status(), (202, "queued"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_the_hospital_is_told_at_once_when_it_is_known() -> anyhow::Result<()> {
    // Each try before the limit is known takes a place, so there are plenty.
    let mut plan = Plan::of(&[900], 1);
    plan.has_afternoon = true;
    plan.limits = Limits { per_day_max: Some(1), ..Limits::default() };
    let clinic = Clinic::open(plan).await?;
    clinic.start_worker(false);
    let first = clinic.book(0, clinic.slots[0], "k").await?;
    let path = format!("/v1/bookings/{}?wait=20", first.id());
    assert_eq!(clinic.get(0, &path).await?.status(), (200, "booked"));
    assert_eq!(clinic.book(0, clinic.slots[0], "new").await?.code(), (409, "already_booked"));
    testkit::eventually("the limit is known", Duration::from_secs(2), async || {
        let answer = clinic.book(0, clinic.slots[1], &testkit::unique()).await.ok()?;
        // Until it is known, the worker judges: a durable rejection, and while that is on its way
        // a further wish is a second one.
        let is_early = answer.status == 202 || answer.code() == (409, "already_booked");
        assert!(is_early || answer.code() == (409, "limit_reached"), "{answer:?}");
        (!is_early).then(|| assert_eq!(answer.json["limit"], "per_day_max"))
    })
    .await?;
    // A repeat of what won is not a second wish.
    let again = clinic.book(0, clinic.slots[0], "k").await?;
    assert_eq!((again.status(), again.id()), ((200, "booked"), first.id()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_too_fast_waits_and_is_told_how_long() -> anyhow::Result<()> {
    let mut plan = Plan::of(&[9], 2);
    plan.args = vec!["--limit-account-per-second=1".into(), "--limit-account-burst=2".into()];
    let clinic = Clinic::open(plan).await?;
    let slot = clinic.slots[0];
    let first = clinic.book(0, slot, "k").await?;
    assert_eq!((first.status, first.header("ratelimit-limit")), (202, "2"));
    assert_eq!(first.header("ratelimit-remaining"), "1");
    clinic.book(0, slot, "k").await?;
    let refused = clinic.book(0, slot, "k").await?;
    assert_eq!(refused.code(), (429, "rate_limited"));
    assert_eq!((refused.header("retry-after"), refused.header("ratelimit-remaining")), ("1", "0"));
    assert_eq!(clinic.book(1, slot, "k").await?.status, 202);
    Ok(())
}
