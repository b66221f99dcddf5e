//! The usual ways to book: the crate `direct`, with a database and a queue of its own on the same servers.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::system::address;
use e2e::{SOON, command};
use serde::Deserialize;
use testkit::{Process, ensure_database, eventually, free_port};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};

use super::{Published, World, output, psql, spawn};

/// What the usual worker did.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Drained {
    /// Bookings persisted and acknowledged.
    pub persisted: u64,
    /// Transactions that began again.
    pub retries: u64,
    /// From the first delivery to the last commit, ms.
    pub elapsed_ms: f64,
}

/// A server of that crate.
#[derive(Debug)]
pub struct Other {
    process: Process,
    /// Where its patients connect.
    pub port: u16,
    database: String,
    amqp: String,
}

/// A probe that is connected and waits to begin. It ends when this is dropped.
#[derive(Debug)]
pub struct Prober {
    probe: Child,
    printed: Lines<BufReader<ChildStdout>>,
}

impl Other {
    /// Starts it beside the pipeline, behind the same front, with the pipeline's token key.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start(world: &World) -> Result<Self> {
        let database = ensure_database(&world.postgres_url(), "direct").await?;
        prepare(&database, 1, 1).await?;
        let port = free_port();
        let settings = [
            ("DIRECT_LISTEN", address(port)),
            // As for the gateway: everybody has an address of their own.
            ("SLOTRUSH_TRUSTED_PROXIES", "127.0.0.0/8".to_owned()),
            ("DIRECT_DATABASE_URL", database.clone()),
            (
                "SLOTRUSH_TOKEN_KEY_FILE",
                world.keys.join(gateway::auth::keys::TOKEN_KEY).display().to_string(),
            ),
        ];
        let mut serve = command("direct", &settings)?;
        let log = world.folder.join("direct.log");
        let process = spawn("direct", serve.arg("serve"), &log)?;
        eventually("the server that books directly", SOON, async || {
            TcpStream::connect(address(port)).await.ok()
        })
        .await?;
        Ok(Self { process, port, database, amqp: world.amqp_url() })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id().pid
    }

    /// Begins with empty tables and so many slots, numbered as the pipeline does, from session 1 on.
    ///
    /// # Errors
    /// If PostgreSQL can't be reached.
    pub async fn prepare(&self, sessions: u32, slots: u32) -> Result<()> {
        prepare(&self.database, sessions, slots).await
    }

    /// Appointments there are; fails unless the slots count as many.
    ///
    /// # Errors
    /// If the counts differ.
    pub async fn booked(&self) -> Result<u64> {
        const COUNTED: &str =
            "SELECT (SELECT count(*) FROM appointment), (SELECT sum(booked) FROM slot)";
        let counted = psql(&self.database, COUNTED).await?;
        let (rows, sum) = counted.split_once('|').context("two counts")?;
        ensure!(rows == sum, "{rows} appointments, but the slots count {sum}");
        Ok(rows.parse()?)
    }

    /// Fills its queue with `bookings` for so many slots, then lets the usual worker persist them for
    /// `lasts`.
    ///
    /// # Errors
    /// If it does not end well.
    pub async fn drain(
        &self,
        sessions: u32,
        slots: u32,
        bookings: u32,
        lasts: Duration,
    ) -> Result<Drained> {
        self.prepare(sessions, slots).await?;
        let queue = format!("direct.{}", testkit::unique());
        let mut fill = self.command("fill", &queue)?;
        fill.args(["--sessions", &sessions.to_string(), "--slots", &slots.to_string()]);
        output(fill.args(["--bookings", &bookings.to_string()])).await?;
        let mut work = self.command("work", &queue)?;
        work.args(["--bookings", &bookings.to_string()]);
        work.args(["--seconds", &lasts.as_secs_f64().to_string()]);
        let printed = output(&mut work).await?;
        let drained: Drained = serde_json::from_str(printed.lines().last().context("no report")?)?;
        let booked = self.booked().await?;
        ensure!(booked == drained.persisted, "{booked} rows for {} acks", drained.persisted);
        Ok(drained)
    }

    /// Starts a probe of the broker and waits until it is connected. It publishes a message now and then for
    /// as long as told, each confirmed, but begins with [`Prober::run`].
    ///
    /// # Errors
    /// If it does not start.
    pub async fn prober(
        &self,
        again: &Published,
        lasts: Duration,
        warm_up: Duration,
    ) -> Result<Prober> {
        let amqp = [("DIRECT_AMQP_URL", self.amqp.clone())];
        let mut probe = Command::from(command("direct", &amqp)?);
        probe.args(["probe", "--exchange", &again.exchange, "--routing-key", &again.routing_key]);
        probe.args(["--kind", again.kind, "--body", &again.body]);
        probe.args(["--seconds", &lasts.as_secs_f64().to_string()]);
        probe.args(["--warm-up-seconds", &warm_up.as_secs_f64().to_string()]);
        probe.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut probe = probe.spawn().context("cannot start the probe")?;
        let printed = probe.stdout.take().context("no output")?;
        let mut printed = BufReader::new(printed).lines();
        ensure!(printed.next_line().await?.as_deref() == Some("ready"), "the probe cannot begin");
        Ok(Prober { probe, printed })
    }

    fn command(&self, what: &str, queue: &str) -> Result<Command> {
        let settings = [
            ("DIRECT_DATABASE_URL", self.database.clone()),
            ("DIRECT_AMQP_URL", self.amqp.clone()),
        ];
        let mut command = Command::from(command("direct", &settings)?);
        command.args([what, "--queue", queue]);
        Ok(command)
    }
}

impl Prober {
    /// Begins, and returns the 99th percentile of what a confirm took after the warm-up, from when its message
    /// was due, ms.
    ///
    /// # Errors
    /// If it does not end well.
    pub async fn run(mut self) -> Result<f64> {
        // Ends its input.
        drop(self.probe.stdin.take());
        let figure = self.printed.next_line().await?;
        let status = self.probe.wait().await?;
        ensure!(status.success(), "the probe ended with {status}");
        let figure = figure.context("the probe has no figure")?;
        figure.parse().with_context(|| format!("no figure: {figure}"))
    }
}

async fn prepare(database: &str, sessions: u32, slots: u32) -> Result<()> {
    let mut prepare =
        Command::from(command("direct", &[("DIRECT_DATABASE_URL", database.to_owned())])?);
    prepare.args(["prepare", "--sessions", &sessions.to_string(), "--slots", &slots.to_string()]);
    output(&mut prepare).await.map(drop)
}
