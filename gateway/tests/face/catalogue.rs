//! What everybody may look at.

use std::time::Duration;

use anyhow::Result;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::eventually;

use crate::administration::{clinic, release};
use crate::world::World;

async fn get(world: &World, path: &str) -> Result<Value> {
    let answer = world.send(world.request(Method::GET, path)).await?;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    assert_eq!(answer.headers["content-type"], "application/json");
    Ok(answer.body)
}

#[tokio::test]
async fn the_way_from_hospital_to_slot_needs_no_token() -> Result<()> {
    let world = World::new().await?;
    let admin = world.admin().await?;
    let (hospital, made) = clinic(&world, &admin).await?;
    let hospitals = get(&world, "/v1/hospitals").await?;
    assert_eq!(hospitals["items"][0]["id"], hospital.as_str());
    assert_eq!(hospitals["items"][0]["limits"]["per_week_max"], 3);
    let departments = get(&world, &format!("/v1/departments?hospital_id={hospital}")).await?;
    let department = departments["items"][0]["id"].as_str().expect("an id").to_owned();
    let doctors = get(&world, &format!("/v1/doctors?department_id={department}")).await?;
    let doctor = doctors["items"][0]["id"].as_str().expect("an id");
    for filter in [format!("doctor_id={doctor}"), format!("department_id={department}")] {
        let path = format!("/v1/sessions?{filter}&from=2099-03-01&to=2099-03-03");
        let sessions = get(&world, &path).await?;
        assert_eq!(sessions["items"][0]["id"], made["id"], "{filter}");
        let today = get(&world, &format!("/v1/sessions?{filter}")).await?;
        assert_eq!(today["items"], json!([]), "{filter}");
    }
    let id = made["id"].as_str().expect("an id");
    let session = get(&world, &format!("/v1/sessions/{id}")).await?;
    assert_eq!(session["slots"][1]["starts_at"], "2099-03-02T09:00:00.000+08:00");
    assert_eq!(session["slots"][0]["left"], 0);
    assert_eq!(session["doctor"]["rank"], "chief");
    assert!(get(&world, "/v1/time").await?["now"].as_str().expect("a time").ends_with("+00:00"));
    Ok(())
}

#[tokio::test]
async fn what_is_left_is_told_with_redis_and_without() -> Result<()> {
    let mut world = World::new().await?;
    let admin = world.admin().await?;
    let (hospital, made) = clinic(&world, &admin).await?;
    let release = release(&world, &admin, &hospital, &made).await?;
    let path = format!("/v1/sessions/{}", made["id"].as_str().expect("an id"));
    let shows = |world: &World, status: &'static str, left: u64| {
        let request = world.request(Method::GET, &path);
        async move {
            let session: Value = request.send().await.ok()?.json().await.ok()?;
            let slot = &session["slots"][0];
            let is_so = slot["release"]["status"] == status && slot["left"] == left;
            is_so.then_some(())
        }
    };
    let within = Duration::from_secs(5);
    eventually("all of it before", within, || shows(&world, "planned", 10)).await?;
    let act = format!("/v1/admin/releases/{release}");
    world.post(&format!("{act}/preheat"), &admin, json!({})).await?;
    eventually("what PostgreSQL says", within, || shows(&world, "open", 10)).await?;
    world.redis.kill().await?;
    let closed = world.post(&format!("{act}/pause"), &admin, json!({})).await?;
    assert_eq!(closed.status, 200, "an admin can act while Redis is down: {closed:?}");
    eventually("the same without Redis", within, || shows(&world, "paused", 10)).await?;
    world.post(&format!("{act}/close"), &admin, json!({})).await?;
    eventually("nothing after", within, || shows(&world, "closed", 0)).await?;
    Ok(())
}

#[tokio::test]
async fn what_does_not_exist_or_is_not_asked_well_is_said_so() -> Result<()> {
    let world = World::new().await?;
    for (path, fault) in [
        ("/v1/sessions/999", (404, "not_found")),
        ("/v1/sessions/x", (404, "not_found")),
        ("/v1/sessions?doctor_id=999", (404, "not_found")),
        ("/v1/sessions", (400, "invalid_field")),
        ("/v1/sessions?doctor_id=1&department_id=1", (400, "invalid_field")),
        ("/v1/sessions?doctor_id=1&from=2099-03-02&to=2099-03-01", (400, "invalid_field")),
        ("/v1/hospitals?limit=0", (400, "invalid_field")),
        ("/v1/hospitals?limit=201", (400, "invalid_field")),
        ("/v1/hospitals?cursor=zzz!", (400, "invalid_field")),
        ("/v1/hospitals?unknown=1", (400, "invalid_field")),
        ("/v1/departments", (400, "invalid_field")),
        ("/v1/nothing", (404, "not_found")),
    ] {
        let answer = world.send(world.request(Method::GET, path)).await?;
        assert_eq!(answer.fault(), fault, "{path}");
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{path}");
    }
    let answer = world.send(world.request(Method::DELETE, "/v1/hospitals")).await?;
    assert_eq!(answer.fault(), (405, "method_not_allowed"));
    Ok(())
}
