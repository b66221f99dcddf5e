//! Tokens that are forged, stale or used up: whoever brings one learns nothing by it.

use anyhow::{Context, Result};
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gateway::auth::keys::SigningKey;
use gateway::auth::refresh;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Answer, World};

/// What a client can see of an answer, but for the time of day.
fn told(mut answer: Answer) -> (u16, String, Value) {
    answer.headers.remove("date");
    (answer.status.as_u16(), format!("{:?}", answer.headers), answer.body)
}

/// Head, claims and signature of a token, decoded.
fn taken_apart(token: &str) -> Result<(Value, Value, String)> {
    let parts: Vec<&str> = token.split('.').collect();
    let json =
        |part| Ok::<Value, anyhow::Error>(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part)?)?);
    Ok((json(parts[0])?, json(parts[1])?, parts[2].to_owned()))
}

fn with(value: &Value, name: &str, other: Value) -> Value {
    let mut value = value.clone();
    value[name] = other;
    value
}

#[tokio::test]
async fn every_forged_or_stale_token_gets_the_same_answer() -> Result<()> {
    let world = World::new().await?;
    let good = world.log_in("li.si").await?.text("access_token");
    let (head, claims, signature) = taken_apart(&good)?;
    let file = world.settings.auth.token_key_file.as_deref().context("a key file")?;
    let key = SigningKey::read(file)?;
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&key.private).expect("a key");
    let unsigned = |head: &Value, claims: &Value| {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}", part(head), part(claims))
    };
    let sign = |head: &Value, claims: &Value| {
        let text = unsigned(head, claims);
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(pair.sign(text.as_bytes())))
    };
    let mac = |secret: &[u8]| {
        let text = unsigned(&with(&head, "alg", json!("HS256")), &claims);
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
        let tag = aws_lc_rs::hmac::sign(&key, text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
    };
    let claim = |name: &str, value: Value| sign(&head, &with(&claims, name, value));
    let now_s = jiff::Timestamp::now().as_second();
    let mut headless = head.clone();
    headless.as_object_mut().context("an object")?.remove("kid");
    let bad = [
        format!("{}.", unsigned(&with(&head, "alg", json!("none")), &claims)),
        format!("{}.{signature}", unsigned(&head, &with(&claims, "role", json!("admin")))),
        mac(&key.public),
        mac(STANDARD.encode(key.public).as_bytes()),
        sign(&with(&head, "kid", json!("other")), &claims),
        sign(&headless, &claims),
        claim("aud", json!("someone")),
        claim("iss", json!("someone")),
        claim("nbf", json!(now_s + 60)),
        claim("exp", json!(now_s - 60)),
        claim("exp", json!((now_s + 60).to_string())),
        claim("exp", json!(60.5)),
        claim("exp", json!(i64::MAX)),
        claim("jti", json!("x".repeat(3_000))),
        "x".repeat(12_000),
        "a.b.c".to_owned(),
        "..".to_owned(),
        "Bearer".to_owned(),
    ];
    let ask = async |request: reqwest::RequestBuilder| {
        world.send(request.header("x-request-id", "same")).await
    };
    let path = "/v1/patients";
    assert_eq!(world.get(path, &sign(&head, &claims)).await?.status, 200, "signed as it should be");
    let none = told(ask(world.request(Method::GET, path)).await?);
    assert_eq!((none.0, &none.2["code"]), (401, &"unauthorized".into()));
    for token in bad {
        let answer = told(ask(world.request(Method::GET, path).bearer_auth(&token)).await?);
        assert_eq!(answer, none, "{token}");
    }
    Ok(())
}

#[tokio::test]
async fn a_refresh_token_that_is_not_good_is_answered_the_same_whatever_is_wrong() -> Result<()> {
    let world = World::new().await?;
    let refresh = async |token: &str| {
        let body = json!({ "refresh_token": token });
        let request = world.request(Method::POST, "/v1/tokens/refresh").json(&body);
        world.send(request.header("x-request-id", "same")).await
    };
    let log_in =
        async || Ok::<_, anyhow::Error>(world.log_in("li.si").await?.text("refresh_token"));
    let (rotated, revoked, other) = (log_in().await?, log_in().await?, log_in().await?);
    let successor = refresh(&rotated).await?.text("refresh_token");
    let gone = world.post("/v1/tokens/revoke", "", json!({ "refresh_token": revoked })).await?;
    assert_eq!(gone.status, 204);
    let (unknown, _) = refresh::mint()?;
    let (expired, hash) = refresh::mint()?;
    let who = world.ledger.find_credentials(world.login_hash("li.si")?).await?;
    world.ledger.start_refresh_family(who.context("the account")?.account, hash, 0).await?;

    let first = told(refresh("no token").await?);
    assert_eq!((first.0, &first.2["code"]), (401, &"unauthorized".into()));
    // The rotated one ends its family: its successor, which was good, is not any more.
    for token in [&unknown, &expired, &revoked, &rotated, &successor, &rotated] {
        assert_eq!(told(refresh(token).await?), first, "{token}");
    }
    assert_eq!(refresh(&other).await?.status, 201, "another log-in of theirs goes on");
    Ok(())
}

#[tokio::test]
async fn two_exchanges_of_one_refresh_token_at_once_are_a_theft() -> Result<()> {
    let world = World::new().await?;
    let token = json!({ "refresh_token": world.log_in("li.si").await?.text("refresh_token") });
    let ask = || world.post("/v1/tokens/refresh", "", token.clone());
    let (one, two) = tokio::try_join!(ask(), ask())?;
    let (won, lost) = if one.status == 201 { (one, two) } else { (two, one) };
    assert_eq!((won.status.as_u16(), lost.fault()), (201, (401, "unauthorized")));
    let next = json!({ "refresh_token": won.text("refresh_token") });
    let next = world.post("/v1/tokens/refresh", "", next).await?;
    assert_eq!(next.fault(), (401, "unauthorized"), "nobody knows who of them was the thief");
    Ok(())
}

/// Whoever knows a log-in name may not try one password after the other.
#[tokio::test]
async fn passwords_of_one_log_in_are_tried_a_few_times_a_minute_and_nobody_else_waits() -> Result<()>
{
    let more = ["--limit-login-per-minute=1", "--limit-login-burst=4"];
    let world = World::with(&more).await?;
    assert_eq!(world.log_in("li.si").await?.status, 201);
    let try_with = async |login: &str, password: &str| {
        let who = json!({ "login": login, "password": password });
        world.post("/v1/tokens", "", who).await
    };
    for name in ["Li.Si", "nobody"] {
        // The good one counted as well.
        let tries = if name == "nobody" { 4 } else { 3 };
        for _ in 0..tries {
            let wrong = try_with(name, "wrong horse").await?;
            assert_eq!(wrong.fault(), (401, "invalid_credentials"));
        }
        // The right password is not told from a wrong one, nor a name that there is from another.
        for password in ["wrong horse", "correct horse"] {
            let refused = try_with(name, password).await?;
            assert_eq!(refused.fault(), (429, "rate_limited"), "{refused:?}");
            assert_eq!(refused.text("limit"), "login");
            let wait: u32 = refused.headers["retry-after"].to_str()?.parse()?;
            assert!((1..=60).contains(&wait), "{wait}");
        }
    }
    assert_eq!(world.log_in("wang.wu").await?.status, 201);
    Ok(())
}
