//! Accounts, tokens, patients.

use anyhow::Result;
use reqwest::Method;
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn a_patient_registers_logs_in_and_adds_a_child() -> Result<()> {
    let world = World::new().await?;
    let who = json!({ "login": "Li.Si", "password": "correct horse" });
    let made = world.post("/v1/accounts", "", who.clone()).await?;
    assert_eq!(made.status, 201, "{made:?}");
    let again = json!({ "login": "li.si", "password": "battery staple" });
    assert_eq!(world.post("/v1/accounts", "", again).await?.fault(), (409, "login_taken"));

    let tokens = world.post("/v1/tokens", "", who).await?;
    assert_eq!(tokens.status, 201, "{tokens:?}");
    assert_eq!(tokens.headers["cache-control"], "no-store");
    assert_eq!(tokens.body["expires_in"], 900);
    let token = tokens.text("access_token");

    let child = json!({ "name": "李小四", "id_number": "11010519491231002x" });
    let added = world.post("/v1/patients", &token, child.clone()).await?;
    assert_eq!(added.status, 201, "{added:?}");
    assert_eq!(added.text("id_number_masked"), "1101**********002X");
    let listed = world.get("/v1/patients", &token).await?;
    assert_eq!(listed.body["items"], json!([added.body]));

    // Another account that adds the same person gets the same patient.
    let other = world.log_in("wang").await?.text("access_token");
    let same = world.post("/v1/patients", &other, child).await?;
    assert_eq!(same.text("id"), added.text("id"));

    let path = format!("/v1/patients/{}", added.text("id"));
    let remove = || world.send(world.request(Method::DELETE, &path).bearer_auth(&token));
    assert_eq!(remove().await?.status, 204);
    assert_eq!(remove().await?.fault(), (404, "not_found"));
    assert_eq!(world.get("/v1/patients", &token).await?.body["items"], json!([]));
    Ok(())
}

#[tokio::test]
async fn nothing_personal_is_kept_in_the_clear() -> Result<()> {
    let world = World::new().await?;
    let token = world.log_in("li.si").await?.text("access_token");
    let child = json!({ "name": "LiXiaoSi", "id_number": "E12345678" });
    world.post("/v1/patients", &token, child).await?;
    let account = world.ledger.find_credentials(b"li.si".to_vec()).await?;
    assert!(account.is_none(), "the name itself finds nothing");
    let sealer = gateway::auth::Sealer::load(&world.settings.auth)?;
    let hash = sealer.hash(gateway::auth::seal::Column::Login, "li.si");
    let account = world.ledger.find_credentials(hash).await?.expect("its keyed hash does");
    let rows = world.ledger.patients(account.account).await?;
    for kept in [&rows[0].name_sealed, &rows[0].id_number_sealed] {
        let text = String::from_utf8_lossy(kept);
        assert!(!text.contains("LiXiaoSi") && !text.contains("E12345678"));
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_answer_alike() -> Result<()> {
    let world = World::new().await?;
    world.log_in("li.si").await?;
    let mut answers = Vec::new();
    for login in ["li.si", "nobody"] {
        let who = json!({ "login": login, "password": "wrong horse" });
        let mut answer = world.post("/v1/tokens", "", who).await?;
        assert_eq!(answer.fault(), (401, "invalid_credentials"));
        answer.body["instance"].take();
        answers.push(answer.body);
    }
    assert_eq!(answers[0], answers[1]);
    Ok(())
}

#[tokio::test]
async fn a_refresh_token_sent_twice_ends_the_log_in() -> Result<()> {
    let world = World::new().await?;
    let first = world.log_in("li.si").await?.text("refresh_token");
    let refresh = async |token: &str| {
        world.post("/v1/tokens/refresh", "", json!({ "refresh_token": token })).await
    };
    let second = refresh(&first).await?;
    assert_eq!(second.status, 201, "{second:?}");
    assert_eq!(world.get("/v1/patients", &second.text("access_token")).await?.status, 200);
    assert_eq!(refresh(&first).await?.fault(), (401, "unauthorized"));
    let successor = second.text("refresh_token");
    assert_eq!(refresh(&successor).await?.fault(), (401, "unauthorized"));
    assert_eq!(refresh("no token").await?.fault(), (401, "unauthorized"));
    Ok(())
}

#[tokio::test]
async fn after_logging_out_the_refresh_token_is_worth_nothing() -> Result<()> {
    let world = World::new().await?;
    let token = json!({ "refresh_token": world.log_in("li.si").await?.text("refresh_token") });
    for _ in 0..2 {
        let answer = world.post("/v1/tokens/revoke", "", token.clone()).await?;
        assert_eq!(answer.status, 204);
    }
    let answer = world.post("/v1/tokens/refresh", "", token).await?;
    assert_eq!(answer.fault(), (401, "unauthorized"));
    Ok(())
}

#[tokio::test]
async fn without_a_good_token_every_answer_is_the_same_401() -> Result<()> {
    let world = World::new().await?;
    let token = world.log_in("li.si").await?.text("access_token");
    let path = "/v1/patients";
    let plain = || world.request(Method::GET, path);
    let mut tampered = token.clone().into_bytes();
    let at = tampered.len() - 10;
    tampered[at] = if tampered[at] == b'A' { b'B' } else { b'A' };
    let tampered = String::from_utf8(tampered)?;
    let mut bodies = Vec::new();
    for request in [
        plain(),
        plain().bearer_auth("x"),
        plain().bearer_auth(tampered),
        plain().basic_auth("li.si", Some("correct horse")),
        plain().header("authorization", &token),
        plain().bearer_auth(&token).header("authorization", "Bearer x"),
    ] {
        let mut answer = world.send(request).await?;
        assert_eq!(answer.fault(), (401, "unauthorized"), "{answer:?}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        answer.body["instance"].take();
        bodies.push(answer.body);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    let small = plain().header("authorization", format!("bearer {token}"));
    assert_eq!(world.send(small).await?.status, 200, "the scheme's case does not matter");
    Ok(())
}

#[tokio::test]
async fn every_wrong_field_is_pointed_at() -> Result<()> {
    let world = World::new().await?;
    let bad = json!({ "login": "x", "password": "short" });
    let answer = world.post("/v1/accounts", "", bad).await?;
    assert_eq!(answer.fault(), (400, "invalid_field"));
    assert_eq!(answer.pointers(), ["/login", "/password"]);
    let token = world.log_in("li.si").await?.text("access_token");
    let bad = json!({ "name": " ", "id_number": "11010519491231002" });
    let answer = world.post("/v1/patients", &token, bad).await?;
    assert_eq!(answer.pointers(), ["/name", "/id_number"]);
    assert!(!answer.body.to_string().contains("1101051949"), "the number is not repeated");
    let extra = json!({ "login": "abc", "password": "12345678", "role": "admin" });
    let answer = world.post("/v1/accounts", "", extra).await?;
    assert_eq!(answer.fault(), (400, "invalid_field"));
    Ok(())
}

#[tokio::test]
async fn the_sixth_patient_is_one_too_many() -> Result<()> {
    let world = World::new().await?;
    let token = world.log_in("li.si").await?.text("access_token");
    for n in 0..6 {
        let patient = json!({ "name": "x", "id_number": format!("E1234567{n}") });
        let answer = world.post("/v1/patients", &token, patient).await?;
        if n < 5 {
            assert_eq!(answer.status, 201);
        } else {
            assert_eq!(answer.fault(), (409, "patient_limit_reached"));
        }
    }
    Ok(())
}
