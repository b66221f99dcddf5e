//! How much anyone may ask: per client address, per account, per clinic session, and over all; and how
//! often anyone may try a log-in's password.
//!
//! Judged in that order, cheapest first. Every limit can be switched off. All are GCRA limiters of
//! `governor`, over a store of our own whose keys are bounded.

pub mod address;
pub mod rate;
pub mod store;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use booking::{AccountId, SessionId};
use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::address::Source;
use self::rate::{Period, Rate, RateLimit};
use crate::header_number;
use crate::problem::{Code, Problem};

/// Bounds on requests.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "request_limits")]
#[command(next_help_heading = "Limits")]
pub struct Settings {
    /// Rate limits per address, account and clinic session (the concurrency limit always holds)
    #[arg(long, env = "SLOTRUSH_LIMITS", default_value = "on")]
    pub limits: Switch,
    /// Requests per second of one client address; 0 switches this limit off
    #[arg(long, env = "SLOTRUSH_LIMIT_ADDRESS_PER_SECOND", default_value_t = 200)]
    pub limit_address_per_second: u32,
    /// Requests one client address may send at once: a hospital's Wi-Fi or kiosks share one
    #[arg(long, env = "SLOTRUSH_LIMIT_ADDRESS_BURST", default_value_t = 2_000)]
    pub limit_address_burst: u32,
    /// Booking requests per second of one account; 0 switches this limit off
    #[arg(long, env = "SLOTRUSH_LIMIT_ACCOUNT_PER_SECOND", default_value_t = 5)]
    pub limit_account_per_second: u32,
    /// Booking requests one account may send at once
    #[arg(long, env = "SLOTRUSH_LIMIT_ACCOUNT_BURST", default_value_t = 20)]
    pub limit_account_burst: u32,
    /// Booking requests per second for one clinic session; 0 switches this limit off
    #[arg(long, env = "SLOTRUSH_LIMIT_SESSION_PER_SECOND", default_value_t = 20_000)]
    pub limit_session_per_second: u32,
    /// Booking requests at once for one clinic session
    #[arg(long, env = "SLOTRUSH_LIMIT_SESSION_BURST", default_value_t = 50_000)]
    pub limit_session_burst: u32,
    /// Log-ins per minute with one log-in name, right or wrong; 0 switches this limit off
    #[arg(long, env = "SLOTRUSH_LIMIT_LOGIN_PER_MINUTE", default_value_t = 6)]
    pub limit_login_per_minute: u32,
    /// Log-ins at once with one log-in name
    #[arg(long, env = "SLOTRUSH_LIMIT_LOGIN_BURST", default_value_t = 10)]
    pub limit_login_burst: u32,
    /// Keys each rate limit remembers; further ones share a limiter
    #[arg(long, env = "SLOTRUSH_LIMIT_KEYS_MAX", default_value_t = 200_000)]
    pub limit_keys_max: usize,
    /// Requests worked on at once, waiting ones (long-poll, events) aside; more are answered 503
    #[arg(long, env = "SLOTRUSH_CONCURRENCY_MAX", default_value_t = 16_384)]
    pub concurrency_max: usize,
    /// Networks of our own proxies, whose X-Forwarded-For is believed (comma-separated CIDR) [default: none]
    #[arg(long, env = "SLOTRUSH_TRUSTED_PROXIES", value_delimiter = ',', value_name = "NETWORKS")]
    pub trusted_proxies: Vec<IpNet>,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// It holds.
    On,
    /// It does not.
    Off,
}

/// How often keys that no longer matter are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(3);

/// All limits of this gateway.
#[derive(Debug)]
pub struct Limits {
    address: Option<RateLimit<Source>>,
    account: Option<RateLimit<AccountId>>,
    session: Option<RateLimit<SessionId>>,
    /// By the keyed hash of the name: names themselves are not kept.
    login: Option<RateLimit<Vec<u8>>>,
    places: Arc<Semaphore>,
    trusted: Vec<IpNet>,
}

impl Limits {
    /// Starts with everybody at zero.
    pub fn new(settings: &Settings) -> Self {
        let rate = |count, period, burst| {
            let is_on = settings.limits == Switch::On;
            let count = NonZeroU32::new(count).filter(|_| is_on)?;
            Some(Rate { count, period, burst: NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN) })
        };
        let per_second = |count, burst| rate(count, Period::Second, burst);
        let keys = settings.limit_keys_max;
        Self {
            address: per_second(settings.limit_address_per_second, settings.limit_address_burst)
                .map(|rate| RateLimit::new("address", rate, keys)),
            account: per_second(settings.limit_account_per_second, settings.limit_account_burst)
                .map(|rate| RateLimit::new("account", rate, keys)),
            session: per_second(settings.limit_session_per_second, settings.limit_session_burst)
                .map(|rate| RateLimit::new("session", rate, keys)),
            login: rate(
                settings.limit_login_per_minute,
                Period::Minute,
                settings.limit_login_burst,
            )
            .map(|rate| RateLimit::new("login", rate, keys)),
            places: Arc::new(Semaphore::new(settings.concurrency_max)),
            trusted: settings.trusted_proxies.clone(),
        }
    }

    /// Counts a request of a client address.
    pub fn admit_address(
        &self,
        peer: std::net::IpAddr,
        headers: &HeaderMap,
    ) -> Result<(), Problem> {
        let Some(limit) = &self.address else { return Ok(()) };
        limit.check(&address::source(peer, headers, &self.trusted)).map(drop)
    }

    /// Counts a booking request of an account; says what it has left.
    pub fn admit_account(&self, account: AccountId) -> Result<Option<Allowance>, Problem> {
        self.account.as_ref().map(|limit| limit.check(&account)).transpose()
    }

    /// Counts a booking request for a clinic session.
    pub fn admit_session(&self, session: SessionId) -> Result<(), Problem> {
        self.session.as_ref().map_or(Ok(()), |limit| limit.check(&session).map(drop))
    }

    /// Counts a try to log in under a name, which is given as its keyed hash.
    pub fn admit_login(&self, login_hash: &Vec<u8>) -> Result<(), Problem> {
        self.login.as_ref().map_or(Ok(()), |limit| limit.check(login_hash).map(drop))
    }

    /// Takes a place among the requests worked on at once.
    pub fn enter(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| Code::Overloaded.into())
    }

    /// Forgets keys that no longer matter, now and then, for ever.
    pub async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            self.address.iter().for_each(RateLimit::sweep);
            self.account.iter().for_each(RateLimit::sweep);
            self.session.iter().for_each(RateLimit::sweep);
            self.login.iter().for_each(RateLimit::sweep);
        }
    }
}

/// What a source has left of its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Requests at once, at most.
    pub limit: u32,
    /// Of these left now.
    pub remaining: u32,
    /// Seconds until all are back.
    pub reset_s: u32,
}

impl Allowance {
    /// Writes the `RateLimit` headers.
    pub fn write(self, headers: &mut HeaderMap) {
        // As constants: a name given as text is parsed each time.
        const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
        const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
        const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
        let number = |number: u32| header_number::of(number.into());
        headers.insert(LIMIT, number(self.limit));
        headers.insert(REMAINING, number(self.remaining));
        headers.insert(RESET, number(self.reset_s));
    }
}
