//! Requests that nobody would write: whatever comes, the fault is the client's.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::World;

const REQUESTS: usize = 1_500;
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Bits that have broken parsers before.
const BITS: [&str; 24] = [
    "0",
    "-1",
    "9223372036854775808",
    "1e999",
    "NaN",
    "null",
    "true",
    "\"\"",
    "[]",
    "{}",
    "{\"a\":",
    "\u{0}",
    "%00",
    "%zz",
    "..",
    "/",
    "?",
    "&limit=",
    "é",
    "\u{202e}",
    "'; --",
    "${x}",
    "\"\\ud800\"",
    "2099-02-30T25:61:61Z",
];

struct Garbage {
    random: StdRng,
    paths: Vec<(String, Vec<String>)>,
    fields: Vec<String>,
    tokens: [String; 3],
}

impl Garbage {
    fn text(&mut self) -> String {
        let count = self.random.random_range(0..4);
        (0..count).map(|_| *BITS.choose(&mut self.random).unwrap_or(&"")).collect()
    }

    fn bytes(&mut self) -> Vec<u8> {
        let count = self.random.random_range(0..60);
        (0..count).map(|_| self.random.random()).collect()
    }

    /// JSON of fields that exist and values that do not fit.
    fn object(&mut self) -> Vec<u8> {
        let count = self.random.random_range(0..5);
        let fields: Vec<String> = (0..count)
            .map(|_| {
                let name = self.fields.choose(&mut self.random).cloned().unwrap_or_default();
                let value = match self.random.random_range(0..3) {
                    0 => format!("{:?}", self.text()),
                    1 => self.random.random::<i64>().to_string(),
                    _ => (*BITS.choose(&mut self.random).unwrap_or(&"1")).to_owned(),
                };
                format!("\"{name}\":{value}")
            })
            .collect();
        format!("{{{}}}", fields.join(",")).into_bytes()
    }

    fn request(&mut self) -> Vec<u8> {
        let (path, methods) = self.paths.choose(&mut self.random).cloned().unwrap_or_default();
        let method = match self.random.random_range(0..10) {
            0 => "PUT".to_owned(),
            _ => methods.choose(&mut self.random).cloned().unwrap_or_default(),
        };
        let (id, query) = (self.text(), self.text());
        let token = self.tokens.choose(&mut self.random).cloned().unwrap_or_default();
        let body = if self.random.random() { self.object() } else { self.bytes() };
        let odd = self.text();
        let head = [
            format!("{method} {}?{query} HTTP/1.1", path.replace("{id}", &id)),
            "host: x\r\nconnection: close\r\ncontent-type: application/json".to_owned(),
            format!("authorization: Bearer {token}\r\nidempotency-key: k{odd}"),
            format!("x-forwarded-for: {odd}\r\nx-request-id: {odd}"),
            format!("content-length: {}\r\n\r\n", body.len()),
        ];
        [head.join("\r\n").into_bytes(), body].concat()
    }
}

/// The names of all fields of all bodies.
fn fields_of(document: &Value) -> Vec<String> {
    let schemas = document["components"]["schemas"].as_object().into_iter().flatten();
    let properties = schemas.filter_map(|(_, schema)| schema["properties"].as_object());
    properties.flat_map(|properties| properties.keys().cloned()).collect()
}

#[tokio::test]
async fn whatever_comes_is_answered_and_never_with_a_fault_of_the_gateway() -> Result<()> {
    let world = World::new().await?;
    let document: Value = serde_json::from_str(&gateway::openapi::text())?;
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().random());
    println!("again: SEED={seed}");
    let paths = document["paths"].as_object().context("paths")?.iter().map(|(path, item)| {
        let methods = item.as_object().into_iter().flat_map(|item| item.keys());
        (path.clone(), methods.map(|method| method.to_uppercase()).collect())
    });
    let mut garbage = Garbage {
        random: StdRng::seed_from_u64(seed),
        paths: paths.collect(),
        fields: fields_of(&document),
        tokens: [
            world.log_in("li.si").await?.text("access_token"),
            world.admin().await?,
            String::new(),
        ],
    };
    let mut statuses: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..REQUESTS {
        let request = garbage.request();
        let mut stream = TcpStream::connect(world.host()).await?;
        stream.write_all(&request).await?;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(ANSWER_WITHIN, stream.read_to_end(&mut answer));
        // A reset is an end as well: of what was refused before it was read.
        let _ = read.await.context("an answer in time")?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).unwrap_or("cut").to_owned();
        let asked = String::from_utf8_lossy(&request).into_owned();
        ensure!(!status.starts_with('5'), "{seed}: {asked}\n\n{answer}");
        *statuses.entry(status).or_default() += 1;
    }
    println!("{statuses:?}");
    ensure!(statuses.len() > 4, "all kinds of answers: {statuses:?}");
    Ok(())
}
