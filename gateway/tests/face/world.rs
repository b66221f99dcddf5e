//! A gateway on a database and a Redis of its own.

use std::time::Duration;

use anyhow::{Context, Result};
use booking::{PatientId, UnixMs};
use clap::Parser;
use gateway::auth::{Passwords, Sealer};
use gateway::auth::{Role, Tokens, keys, login};
use gateway::settings::Cli;
use ledger::Ledger;
use ledger::account::Registered;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use testkit::{Database, Redis, eventually};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A running gateway. Everything ends with it.
pub(crate) struct World {
    pub(crate) ledger: Ledger,
    pub(crate) redis: Redis,
    pub(crate) tokens: Tokens,
    pub(crate) settings: gateway::Settings,
    address: String,
    client: reqwest::Client,
    _stop: DropGuard,
    _keys: tempfile::TempDir,
    _database: Database,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn text(&self, field: &str) -> String {
        self.body[field].as_str().unwrap_or_default().to_owned()
    }

    /// Status and code of a problem.
    pub(crate) fn fault(&self) -> (u16, &str) {
        (self.status.as_u16(), self.body["code"].as_str().unwrap_or_default())
    }

    /// The fields a problem points at.
    pub(crate) fn pointers(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array();
        errors.into_iter().flatten().filter_map(|one| one["pointer"].as_str()).collect()
    }
}

impl World {
    pub(crate) async fn new() -> Result<Self> {
        Self::with(&[]).await
    }

    /// The same with these further settings of the gateway.
    pub(crate) async fn with(more: &[&str]) -> Result<Self> {
        let (database, redis) = (Database::create().await?, Redis::start().await?);
        let folder = tempfile::tempdir()?;
        keys::generate(folder.path())?;
        let path = |name| folder.path().join(name).display().to_string();
        let own = [
            "gateway".to_owned(),
            format!("--redis-url={}", redis.url()),
            // Nobody is there: nothing of this needs a queue.
            "--amqp-url=amqp://guest:guest@127.0.0.1:1/%2f".to_owned(),
            format!("--database-url={}", database.url()),
            format!("--token-key-file={}", path(keys::TOKEN_KEY)),
            format!("--data-key-file={}", path(keys::DATA_KEY)),
        ];
        let args = own.into_iter().chain(more.iter().map(|&arg| arg.to_owned()));
        let settings = Cli::try_parse_from(args)?.settings;
        let ledger = Ledger::start(&settings.ledger(&settings.stores.addresses()?))?;
        ledger.migrate().await?;
        let tokens = Tokens::load(&settings.auth)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let admin = TcpListener::bind("127.0.0.1:0").await?;
        let shutdown = CancellationToken::new();
        tokio::spawn(gateway::run(settings.clone(), listener, admin, shutdown.clone()));
        let world = Self {
            ledger,
            redis,
            tokens,
            settings,
            address,
            client: reqwest::Client::new(),
            _stop: shutdown.drop_guard(),
            _keys: folder,
            _database: database,
        };
        eventually("the gateway answers", Duration::from_secs(20), || async {
            world.client.get(format!("{}/v1/time", world.address)).send().await.ok()
        })
        .await?;
        Ok(world)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.address))
    }

    /// Host and port.
    pub(crate) fn host(&self) -> &str {
        self.address.trim_start_matches("http://")
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Result<Answer> {
        self.send(self.request(Method::GET, path).bearer_auth(token)).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: Value) -> Result<Answer> {
        let request = self.request(Method::POST, path).bearer_auth(token);
        self.send(request.json(&body)).await
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Answer> {
        let response: Response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await?;
        let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? };
        Ok(Answer { status, headers, body })
    }

    /// Makes an account and logs in.
    pub(crate) async fn log_in(&self, login: &str) -> Result<Answer> {
        let who = json!({ "login": login, "password": "correct horse" });
        self.post("/v1/accounts", "", who.clone()).await?;
        self.post("/v1/tokens", "", who).await
    }

    /// Returns what an account is found by.
    pub(crate) fn login_hash(&self, login: &str) -> Result<Vec<u8>> {
        Ok(Sealer::load(&self.settings.auth)?.hash(gateway::auth::seal::Column::Login, login))
    }

    /// Returns an access token of a new account that may administer.
    pub(crate) async fn admin(&self) -> Result<String> {
        let sealer = Sealer::load(&self.settings.auth)?;
        let passwords = Passwords::new()?;
        let password = "correct horse".to_owned();
        let new = login::prepare(&sealer, &passwords, "root", password, Role::Admin).await;
        let new = new.map_err(|problem| anyhow::anyhow!("{problem:?}"))?;
        let Registered::Done(account) = self.ledger.create_account(None, new).await? else {
            anyhow::bail!("there is an admin already")
        };
        let now = jiff::Timestamp::now().as_millisecond();
        let none: [PatientId; 0] = [];
        self.tokens.issue(account, Role::Admin, &none, UnixMs(now)).context("a token")
    }
}
