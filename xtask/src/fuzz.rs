//! `cargo xtask fuzz`: the OpenAPI document against a gateway, with requests nobody thought of.
//!
//! Schemathesis makes them, as a patient and as an admin. It fails on an answer that the document
//! does not name, on every 5xx, and on a body that is not as described; afterwards no program may
//! have panicked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use testkit::{Postgres, find_program, unique, write_private};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::command;
use crate::demo::make_admin;
use crate::interrupt::unless_interrupted;
use crate::stack::{Options, Stack};
use crate::workspace::{private_folder, relative, root};

const PACKAGE: &str = "schemathesis==4.32.5";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

/// What is asked how often.
#[derive(Debug, Args)]
pub(crate) struct Fuzz {
    /// Requests per route and role at most, besides the listed edge cases
    #[arg(long, default_value_t = 100)]
    examples: u32,
    /// Repeats a run: what it printed as its seed
    #[arg(long)]
    seed: Option<u128>,
}

/// Runs both roles on a private stack that ends with this.
pub(crate) async fn run(fuzz: Fuzz) -> Result<()> {
    let tool = unless_interrupted(ensure_schemathesis()).await?;
    if folder().exists() {
        Stack::open(&folder(), Options::default())?.stop().await?;
        Postgres::delete_elsewhere(&folder().join("postgres"));
        fs::remove_dir_all(folder()).context("cannot delete the last run's data")?;
    }
    let environment = vec![("SLOTRUSH_LIMITS".to_owned(), "off".to_owned())];
    let options = Options { use_settings: false, environment, ..Options::default() };
    let mut stack = Stack::start(&folder(), options).await?;
    let outcome = unless_interrupted(both(&fuzz, &tool, &stack)).await;
    stack.stop().await?;
    outcome
}

async fn both(fuzz: &Fuzz, tool: &Path, stack: &Stack) -> Result<()> {
    let gateway = stack.gateway_urls().into_iter().next().context("there is no gateway")?;
    let password = make_admin(stack).await?;
    let patient = json!({ "login": unique(), "password": unique() });
    post(&gateway, "/v1/accounts", &patient).await?;
    let admin = json!({ "login": crate::demo::ADMIN, "password": password });
    let mut failed = Vec::new();
    for (role, who) in [("patient", patient), ("admin", admin)] {
        let tokens = post(&gateway, "/v1/tokens", &who).await?;
        let token = tokens["access_token"].as_str().context("a token")?;
        println!("==> as {role}");
        if !command::run(&mut requests(fuzz, tool, &gateway, token)?).await?.success() {
            failed.push(role);
        }
    }
    for program in ["gateway-1", "worker-1"] {
        let log = fs::read_to_string(folder().join(format!("{program}.log")))?;
        ensure!(!log.contains("panicked"), "{program} panicked: {}", relative(&folder()));
    }
    ensure!(failed.is_empty(), "not as the document says, as {}", failed.join(" and as "));
    println!("every answer is in the document; nothing panicked");
    Ok(())
}

fn requests(fuzz: &Fuzz, tool: &Path, gateway: &str, token: &str) -> Result<Command> {
    // The token in a file: arguments are visible to everyone.
    let settings = folder().join("schemathesis.toml");
    let header = format!("headers = {{ Authorization = \"Bearer {token}\" }}\n");
    write_private(&settings, &header)?;
    let mut command = Command::new(tool);
    command.current_dir(folder()).arg("--config-file").arg(settings).arg("run");
    command.arg(root().join("docs/openapi.json")).args(["--url", gateway]);
    command.args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--no-color"]);
    command.args(["--max-examples", &fuzz.examples.to_string(), "--continue-on-failure"]);
    // Followed for minutes where a booking is not final.
    command.args(["--request-timeout", "25", "--suppress-health-check", "all"]);
    if let Some(seed) = fuzz.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    Ok(command)
}

/// Posts JSON; the answer must be good.
async fn post(gateway: &str, path: &str, body: &Value) -> Result<Value> {
    let host = gateway.trim_start_matches("http://");
    let (body, mut stream) = (body.to_string(), TcpStream::connect(host).await?);
    let head = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    let length = body.len();
    let request =
        format!("{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    ensure!(head.starts_with("HTTP/1.1 201"), "{path}: {head}");
    serde_json::from_str(body).context("no JSON")
}

/// Where the stack and what was found are.
fn folder() -> PathBuf {
    private_folder().join("fuzz")
}

/// The tool in an environment of its own, made if need be.
async fn ensure_schemathesis() -> Result<PathBuf> {
    let home = private_folder().join("tools").join("schemathesis");
    let program = home.join("bin/schemathesis");
    if !program.is_file() {
        let Some(python) = find_program("python3") else {
            bail!("schemathesis needs python3 with venv")
        };
        println!("fetching {PACKAGE}");
        let mut venv = Command::new(python);
        command::succeed(venv.args(["-m", "venv"]).arg(&home).stdout(Stdio::null())).await?;
        let mut pip = Command::new(home.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE]);
        command::succeed(&mut pip).await.with_context(|| format!("cannot fetch {PACKAGE}"))?;
    }
    Ok(program)
}
