//! Making what is on offer, running a release, seeing to what was parked.

use anyhow::{Context, Result};
use booking::{Partition, SlotId, UnixMs};
use jiff::{Timestamp, ToSpan};
use ledger::catalogue::{NewSession, NewSlot, Period, SessionCreated};
use ledger::parked::Parked;
use serde_json::{Value, json};

use crate::world::World;

/// Makes a clinic with one session of two slots; returns hospital and session.
pub(crate) async fn clinic(world: &World, admin: &str) -> Result<(String, Value)> {
    let make = async |path: &str, body: Value| -> Result<Value> {
        let answer = world.post(&format!("/v1/admin/{path}"), admin, body).await?;
        assert_eq!(answer.status, 201, "{answer:?}");
        Ok(answer.body)
    };
    let hospital = json!({ "name": "仁和", "time_zone": "Asia/Shanghai" });
    let hospital = make("hospitals", hospital).await?["id"].clone();
    let department = json!({ "hospital_id": hospital, "name": "内科" });
    let department = make("departments", department).await?["id"].clone();
    let doctor = json!({ "department_id": department, "name": "李", "rank": "chief" });
    let doctor = make("doctors", doctor).await?["id"].clone();
    let session = json!({
        "doctor_id": doctor,
        "on_date": "2099-03-02",
        "period": "morning",
        "slots": [
            { "starts_at": "2099-03-02T08:00:00+08:00", "ends_at": "2099-03-02T09:00:00+08:00", "capacity": 10 },
            { "starts_at": "2099-03-02T01:00:00Z", "ends_at": "2099-03-02T02:00:00Z", "capacity": 5 },
        ],
    });
    let session = make("sessions", session).await?;
    Ok((hospital.as_str().unwrap_or_default().to_owned(), session))
}

pub(crate) async fn release(
    world: &World,
    admin: &str,
    hospital: &str,
    session: &Value,
) -> Result<String> {
    let slots: Vec<_> = session["slots"].as_array().expect("slots").iter().collect();
    let body = json!({
        "hospital_id": hospital,
        "name": "三月",
        "opens_at": "2026-01-01T08:00:00+08:00",
        "closes_at": "2099-03-01T08:00:00+08:00",
        "slot_ids": slots.iter().map(|slot| slot["id"].clone()).collect::<Vec<_>>(),
    });
    let made = world.post("/v1/admin/releases", admin, body.clone()).await?;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(
        (made.text("status"), &made.body["counts"]["capacity"]),
        ("planned".into(), &15.into())
    );
    assert_eq!(made.text("closes_at"), "2099-03-01T08:00:00.000+08:00");
    let again = world.post("/v1/admin/releases", admin, body).await?;
    assert_eq!(again.fault(), (409, "conflict"));
    Ok(made.text("id"))
}

#[tokio::test]
async fn a_release_goes_through_its_states() -> Result<()> {
    let world = World::new().await?;
    let admin = world.admin().await?;
    let (hospital, session) = clinic(&world, &admin).await?;
    let id = release(&world, &admin, &hospital, &session).await?;
    let act = async |verb: &str| {
        world.post(&format!("/v1/admin/releases/{id}/{verb}"), &admin, json!({})).await
    };
    for (verb, status, free) in [
        ("preheat", "open", 15),
        ("pause", "paused", 15),
        ("pause", "paused", 15),
        ("resume", "open", 15),
        ("close", "closed", 0),
        ("close", "closed", 0),
    ] {
        let answer = act(verb).await?;
        assert_eq!(answer.status, 200, "{verb}: {answer:?}");
        assert_eq!(
            (answer.text("status"), &answer.body["counts"]["free"]),
            (status.into(), &free.into()),
            "{verb}"
        );
    }
    for verb in ["preheat", "pause", "resume"] {
        assert_eq!(act(verb).await?.fault(), (409, "release_state"), "{verb}");
    }
    let found = world.get(&format!("/v1/admin/releases/{id}"), &admin).await?;
    assert_eq!(found.text("status"), "closed");
    let listed = world.get("/v1/admin/releases?limit=1", &admin).await?;
    assert_eq!(listed.body["items"][0]["id"], found.body["id"]);
    let nothing = world.post("/v1/admin/releases/999/pause", &admin, json!({})).await?;
    assert_eq!(nothing.fault(), (404, "not_found"));
    Ok(())
}

#[tokio::test]
async fn only_an_admin_administers() -> Result<()> {
    let world = World::new().await?;
    let patient = world.log_in("li.si").await?.text("access_token");
    for path in ["hospitals", "departments", "doctors", "sessions", "releases"] {
        let path = format!("/v1/admin/{path}");
        let answer = world.post(&path, &patient, json!({ "not": "looked at" })).await?;
        assert_eq!(answer.fault(), (403, "forbidden"), "{path}");
        let answer = world.post(&path, "", json!({})).await?;
        assert_eq!(answer.fault(), (401, "unauthorized"), "{path}");
    }
    for path in ["releases/1/pause", "releases/1/close", "parked/1/replay", "parked/1/discard"] {
        let answer = world.post(&format!("/v1/admin/{path}"), &patient, json!({})).await?;
        assert_eq!(answer.fault(), (403, "forbidden"), "{path}");
    }
    for path in ["releases", "releases/1", "parked"] {
        let answer = world.get(&format!("/v1/admin/{path}"), &patient).await?;
        assert_eq!(answer.fault(), (403, "forbidden"), "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_made_is_checked_field_by_field() -> Result<()> {
    let world = World::new().await?;
    let admin = world.admin().await?;
    let cases = [
        ("hospitals", json!({ "name": "", "time_zone": "Mars/Base" }), vec!["/name", "/time_zone"]),
        (
            "hospitals",
            json!({ "name": "x", "time_zone": "UTC", "limits": { "per_day_max": 0, "per_week_max": null } }),
            vec!["/limits/per_day_max"],
        ),
        ("departments", json!({ "hospital_id": "999", "name": "x" }), vec!["/hospital_id"]),
        ("doctors", json!({ "department_id": "999", "name": "x" }), vec!["/department_id"]),
        (
            "doctors",
            json!({ "department_id": "999", "name": "x", "rank": "god", "fee_fen": 1_000_001 }),
            vec!["/rank", "/fee_fen"],
        ),
        (
            "sessions",
            json!({ "doctor_id": "999", "on_date": "2099-03-02", "period": "morning", "slots": [] }),
            vec!["/doctor_id"],
        ),
        (
            "releases",
            json!({
                "hospital_id": "999", "name": "x", "slot_ids": ["256", "257", "256"],
                "opens_at": "2099-03-02T00:00:00Z", "closes_at": "2099-03-02T00:00:00Z",
            }),
            vec!["/closes_at", "/slot_ids/2"],
        ),
    ];
    for (path, body, pointers) in cases {
        let answer = world.post(&format!("/v1/admin/{path}"), &admin, body).await?;
        assert_eq!(answer.fault(), (400, "invalid_field"), "{path}: {answer:?}");
        assert_eq!(answer.pointers(), pointers, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn nothing_past_is_put_on_offer() -> Result<()> {
    let world = World::new().await?;
    let admin = world.admin().await?;
    let (hospital, session) = clinic(&world, &admin).await?;
    let later = session["slots"][0]["id"].clone();
    let path = format!("/v1/sessions/{}", session["id"].as_str().unwrap_or_default());
    let shown = world.get(&path, "").await?.body;
    let body = json!({
        "doctor_id": shown["doctor"]["id"], "on_date": "2020-01-01", "period": "morning",
        "slots": [{ "starts_at": "2020-01-01T08:00:00+08:00", "ends_at": "2020-01-01T09:00:00+08:00", "capacity": 1 }],
    });
    let refused = world.post("/v1/admin/sessions", &admin, body).await?;
    let told = (refused.fault(), refused.pointers());
    assert_eq!(told, ((409, "slot_begun"), vec!["/slots/0/starts_at"]));
    let past = made_in_the_past(&world, &shown).await?;
    let ask = async |closes_at: &str, slots: Value| {
        let body = json!({
            "hospital_id": hospital, "name": "x", "slot_ids": slots,
            "opens_at": "2020-01-01T00:00:00Z", "closes_at": closes_at,
        });
        world.post("/v1/admin/releases", &admin, body).await
    };
    let over = ask("2020-01-02T00:00:00Z", json!([later])).await?;
    assert_eq!((over.fault(), over.pointers()), ((400, "invalid_field"), vec!["/closes_at"]));
    let begun = ask("2099-01-01T00:00:00Z", json!([later, past])).await?;
    assert_eq!((begun.fault(), begun.pointers()), ((409, "slot_begun"), vec!["/slot_ids/1"]));
    assert_eq!(ask("2099-01-01T00:00:00Z", json!([later])).await?.status, 201);
    Ok(())
}

/// A slot that was in the future when it was made.
async fn made_in_the_past(world: &World, like: &Value) -> Result<SlotId> {
    let doctor = like["doctor"]["id"].as_str().context("a doctor")?.parse()?;
    let starts_at = UnixMs(1_577_836_800_000);
    let slot = NewSlot { starts_at, ends_at: starts_at.plus_ms(3_600_000), capacity: 1 };
    let on_date = jiff::civil::date(2020, 1, 1);
    let new = NewSession { doctor, on_date, period: Period::Morning, slots: vec![slot] };
    let actor = world.log_in("li.si").await?;
    anyhow::ensure!(actor.status == 201, "{actor:?}");
    let account = world.ledger.find_credentials(world.login_hash("li.si")?).await?;
    let actor = account.context("an account")?.account;
    let partitions = world.settings.partitions()?;
    match world.ledger.create_session(actor, partitions, new).await? {
        SessionCreated::Done(session) => Ok(SlotId::of(session, 0)),
        other => anyhow::bail!("{other:?}"),
    }
}

#[tokio::test]
async fn a_doctor_has_one_session_at_a_time() -> Result<()> {
    let world = World::new().await?;
    let admin = world.admin().await?;
    let (_, session) = clinic(&world, &admin).await?;
    let path = format!("/v1/sessions/{}", session["id"].as_str().unwrap_or_default());
    let shown = world.get(&path, "").await?.body;
    let end = shown["slots"].as_array().and_then(|slots| slots.last()).context("a slot")?;
    let end: Timestamp = end["ends_at"].as_str().context("an end")?.parse()?;
    let ask = async |period: &str, from: Timestamp| {
        let body = json!({
            "doctor_id": shown["doctor"]["id"], "on_date": shown["on_date"], "period": period,
            "slots": [{ "starts_at": from, "ends_at": from + 1.hour(), "capacity": 1 }],
        });
        world.post("/v1/admin/sessions", &admin, body).await
    };
    let same = ask("morning", end).await?;
    assert_eq!(same.fault(), (409, "conflict"), "{same:?}");
    let overlapping = ask("afternoon", end - 1.millisecond()).await?;
    assert_eq!(overlapping.fault(), (409, "session_overlap"), "{overlapping:?}");
    let behind = ask("afternoon", end).await?;
    assert_eq!(behind.status, 201, "{behind:?}");
    Ok(())
}

#[tokio::test]
async fn a_release_of_many_slots_fits_an_admins_body_and_nobody_elses() -> Result<()> {
    let world = World::new().await?;
    let admin = world.admin().await?;
    let (hospital, _) = clinic(&world, &admin).await?;
    let slots: Vec<String> = (0..2_000).map(|n| (1_000_000 + n).to_string()).collect();
    let body = json!({
        "hospital_id": hospital, "name": "x", "slot_ids": slots,
        "opens_at": "2099-03-01T00:00:00Z", "closes_at": "2099-03-02T00:00:00Z",
    });
    let answer = world.post("/v1/admin/releases", &admin, body.clone()).await?;
    assert_eq!(answer.fault(), (400, "invalid_field"), "read, and the slots do not exist");
    assert_eq!(world.post("/v1/tokens", "", body).await?.fault(), (413, "body_too_large"));
    Ok(())
}

#[tokio::test]
async fn a_parked_message_is_listed_and_discarded_and_both_acts_are_noted() -> Result<()> {
    let world = World::new().await?;
    let admin = world.admin().await?;
    let unreadable = Parked::Message { entry: None, body: b"?".to_vec() };
    world.ledger.park(Partition::new(0), "undecodable", "not JSON", &[unreadable]).await?;
    let listed = world.get("/v1/admin/parked", &admin).await?;
    let item = &listed.body["items"][0];
    assert_eq!((&item["reason"], &item["replayable"]), (&"undecodable".into(), &false.into()));
    let id: i64 = item["id"].as_str().expect("an id").parse()?;
    let act = async |verb: &str| {
        world.post(&format!("/v1/admin/parked/{id}/{verb}"), &admin, json!({})).await
    };
    assert_eq!(act("replay").await?.fault(), (409, "conflict"));
    assert_eq!(act("discard").await?.status, 204);
    assert_eq!(act("discard").await?.fault(), (404, "not_found"));
    let log = world.ledger.audit_log("parked", id, 10).await?;
    let actions: Vec<_> = log.iter().rev().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["replay", "discard", "discard"]);
    Ok(())
}
