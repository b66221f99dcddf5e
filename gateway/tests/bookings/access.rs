//! Every route of the OpenAPI document, tried as everybody: `docs/access.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::Value;

use crate::answer::Answer;
use crate::stage::{Stage, Wanted};

/// Who asks. The patient whose things are asked for is last: what they do works.
const ROLES: [&str; 5] = ["nobody", "another patient", "doctor", "admin", "patient"];
/// The order of the columns.
const COLUMNS: [&str; 5] = ["nobody", "patient", "another patient", "doctor", "admin"];

const HEAD: &str = "# Who may do what

Every route of [the OpenAPI document](openapi.json), asked of a gateway on real servers by everybody: the status, and
the `code` where there is one. What is asked for belongs to `patient`: the booking, the person, the refresh token.
A gateway's answer about someone else's thing is, to the letter, its answer about a thing that does not exist; the
test asks for both and compares.

The test that writes this table fails when an answer changes and when a route is not in it:
`cargo test -p gateway --test bookings access`, and with `REWRITE=1` it writes what it saw.

| method | path | nobody | patient | another patient | doctor | admin |
|---|---|---|---|---|---|---|
";

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_every_role_as_the_table_says() -> Result<()> {
    let stage = Stage::set().await?;
    let document: Value = serde_json::from_str(&gateway::openapi::text())?;
    let mut table = HEAD.to_owned();
    for (path, item) in document["paths"].as_object().context("paths")? {
        for (method, operation) in item.as_object().context("methods")? {
            let method: Method = method.to_uppercase().parse()?;
            let mut cells = BTreeMap::new();
            for role in ROLES {
                let answer = ask(&stage, &method, path, role).await?;
                let is_named = operation["responses"][answer.status.to_string()].is_object();
                ensure!(is_named, "{method} {path} as {role}: {answer:?} is not documented");
                let (status, code) = answer.code();
                cells.insert(role, format!("{status} {code}").trim().to_owned());
            }
            let cells = COLUMNS.map(|role| cells[role].clone()).join(" | ");
            writeln!(table, "| {method} | `{path}` | {cells} |")?;
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/access.md");
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(&file, &table)?;
    }
    let kept = std::fs::read_to_string(&file)?;
    for (seen, kept) in table.lines().zip(kept.lines()) {
        assert_eq!(seen, kept, "docs/access.md says otherwise");
    }
    assert_eq!(table, kept, "docs/access.md has other rows");
    Ok(())
}

/// Asks for what exists. Whoever is refused is asked for what does not exist too, and must not be
/// able to tell.
async fn ask(stage: &Stage, method: &Method, path: &str, role: &str) -> Result<Answer> {
    let wanted = stage.wanted(method, path).await.with_context(|| format!("{method} {path}"))?;
    let answer = stage.send(method, &wanted, role).await?;
    if role != "patient" {
        let text = answer.json.to_string();
        assert!(!text.contains(&stage.booking), "{method} {path} tells {role} of the booking");
    }
    if let (true, Some(absent)) = (answer.status >= 400, &wanted.absent) {
        let none = Wanted { path: absent.0.clone(), body: absent.1.clone(), absent: None };
        let none = stage.send(method, &none, role).await?;
        let is_like = told(&none) == told(&answer);
        // Of an admin the state of what they administer is no secret.
        let is_known = role == "admin" && path.starts_with("/v1/admin/");
        assert!(is_like || is_known, "{method} {path} as {role}: {answer:?}, absent: {none:?}");
    }
    Ok(answer)
}

/// All that a client can see, but the time of day and how many requests it has left.
fn told(answer: &Answer) -> (u16, Vec<(String, Vec<u8>)>, Value) {
    let is_same = |name: &str| name != "date" && !name.starts_with("ratelimit");
    let headers = answer.headers.iter().filter(|(name, _)| is_same(name.as_str()));
    let headers = headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    (answer.status, headers.collect(), answer.json.clone())
}
