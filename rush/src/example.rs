//! A patient to try the system with by hand: an account with a log-in, and what to type.

use std::time::Duration;

use anyhow::Context as _;
use booking::{Clock as _, SystemClock};
use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderValue;
use rand::Rng as _;
use serde_json::{Value, json};

use crate::client::{Client, Sent};
use crate::prepare;
use crate::settings::ExampleArgs;

/// What each of the first 17 digits of a resident id number counts for its check digit.
const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];

/// Registers an account with one patient, puts a few places on offer and prints how to book one.
///
/// # Errors
/// If the gateway refuses.
pub async fn show(args: &ExampleArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.gateway, 2, Duration::from_secs(30))?;
    let (login, password) = ("patient", format!("{:016x}", rand::rng().random::<u64>()));
    let account = json!({"login": login, "password": password});
    post(&client, "/v1/accounts", None, &account).await?;
    let tokens = post(&client, "/v1/tokens", None, &account).await?;
    let token = tokens["access_token"].as_str().context("no access token")?;
    let authorization = HeaderValue::from_str(&format!("Bearer {token}"))?;
    let person = json!({"name": "Example", "id_number": id_number(&mut rand::rng())});
    let patient = post(&client, "/v1/patients", Some(&authorization), &person).await?;
    let patient = patient["id"].as_str().context("no patient id")?;
    let plan = prepare::release(&client, &args.preparation).await?;
    let opens_in_ms = plan.opens_at.since(SystemClock.now());
    tokio::time::sleep(Duration::from_millis(opens_in_ms)).await;
    let slot = plan.offers.first().context("nothing is on offer")?.slot;
    let url = args.gateway.as_str().trim_end_matches('/');
    let json_type = "-H 'content-type: application/json'";
    println!("  a patient's log-in   {login} / {password}");
    println!("\n  Log in, book, and see what became of it:\n");
    println!("    TOKEN=$(curl -s {url}/v1/tokens {json_type} \\");
    println!("      -d '{account}' | sed 's/.*\"access_token\":\"\\([^\"]*\\).*/\\1/')");
    println!("    curl -i {url}/v1/bookings {json_type} \\");
    println!("      -H \"authorization: Bearer $TOKEN\" -H \"idempotency-key: my-first\" \\");
    println!("      -d '{{\"slot_id\":\"{slot}\",\"patient_id\":\"{patient}\"}}'");
    println!("    curl -s {url}/v1/bookings -H \"authorization: Bearer $TOKEN\"");
    Ok(())
}

async fn post(
    client: &Client,
    path: &str,
    authorization: Option<&HeaderValue>,
    body: &Value,
) -> anyhow::Result<Value> {
    let headers: Vec<_> =
        authorization.map(|value| ("authorization", value.clone())).into_iter().collect();
    let sent = client.send(Method::POST, path, &headers, Bytes::from(body.to_string())).await;
    match sent {
        Sent::Reply(reply) if (200..300).contains(&reply.status) => {
            serde_json::from_slice(&reply.body).with_context(|| format!("answer to {path}"))
        }
        Sent::Reply(reply) => {
            let text = String::from_utf8_lossy(&reply.body).into_owned();
            anyhow::bail!("{path}: {} {text}", reply.status)
        }
        Sent::NotSent | Sent::Lost => anyhow::bail!("no answer from the gateway to {path}"),
    }
}

/// Makes up a well-formed resident id number: area, birthday, sequence, check digit.
fn id_number(rng: &mut impl rand::Rng) -> String {
    let (year, month, day) =
        (rng.random_range(1950..2010), rng.random_range(1..=12), rng.random_range(1..=28));
    let digits = format!("110101{year}{month:02}{day:02}{:03}", rng.random_range(1..1000));
    let sum: u32 =
        digits.bytes().zip(WEIGHTS).map(|(b, weight)| u32::from(b - b'0') * weight).sum();
    let check = char::from(b"10X98765432"[(sum % 11) as usize]);
    format!("{digits}{check}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_id_number_has_eighteen_digits_and_its_check_digit() {
        let number = id_number(&mut rand::rng());
        assert_eq!(number.len(), 18);
        let value = |c: char| if c == 'X' { 10 } else { c.to_digit(10).unwrap_or(99) };
        let weights = WEIGHTS.iter().copied().chain([1]);
        let sum: u32 = number.chars().zip(weights).map(|(c, weight)| value(c) * weight).sum();
        assert_eq!(sum % 11, 1);
    }
}
