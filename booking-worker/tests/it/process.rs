//! The program as its users run it.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use booking::State;
use ledger::release::ReleaseVerb;
use testkit::{ProcessId, Signal, eventually, free_port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{SOON, World};

const PROGRAM: &str = env!("CARGO_BIN_EXE_booking-worker");

fn program() -> Command {
    let mut command = Command::new(PROGRAM);
    let inherited = std::env::vars().map(|(name, _)| name);
    for name in inherited.filter(|name| name.starts_with("SLOTRUSH_")) {
        command.env_remove(name);
    }
    command
        .env("SLOTRUSH_REDIS_URL", "redis://127.0.0.1:1")
        .env("SLOTRUSH_AMQP_URL", "amqp://127.0.0.1:1")
        .env("SLOTRUSH_DATABASE_URL", "postgres://127.0.0.1:1/none");
    command
}

fn refused(name: &str, value: &str) -> Result<String> {
    let Output { status, stderr, .. } = program().env(name, value).output()?;
    ensure!(status.code() == Some(2), "{name}={value}: {status}");
    let text = String::from_utf8(stderr)?;
    ensure!(text.trim_end().lines().count() == 1, "{text}");
    Ok(text.trim_end().to_owned())
}

#[test]
fn a_bad_setting_ends_the_program_with_one_line_that_names_it() -> Result<()> {
    let line = refused("SLOTRUSH_REDIS_URL", "http://secret@localhost")?;
    assert_eq!(line, "SLOTRUSH_REDIS_URL: expected redis://host:port");
    for (name, value) in [
        ("SLOTRUSH_AMQP_URL", "nonsense"),
        ("SLOTRUSH_DATABASE_URL", ""),
        ("SLOTRUSH_PARTITIONS", "0"),
        ("SLOTRUSH_WORKER_ROLES", "consume,dance"),
        ("SLOTRUSH_BATCH_WAIT_MS", "-1"),
        ("SLOTRUSH_LOG", "=,="),
        ("SLOTRUSH_LOG_FORMAT", "xml"),
        ("SLOTRUSH_WORKER_ADMIN_LISTEN", "nowhere"),
    ] {
        let line = refused(name, value)?;
        assert!(line.starts_with(&format!("{name}: ")), "{line}");
    }
    Ok(())
}

#[test]
fn help_lists_every_setting_and_no_secret() -> Result<()> {
    let secret = "redis://:hush@127.0.0.1:1";
    let output = program().arg("--help").env("SLOTRUSH_REDIS_URL", secret).output()?;
    ensure!(output.status.success());
    let help = String::from_utf8(output.stdout)?;
    for name in ["SLOTRUSH_PARTITIONS", "SLOTRUSH_REDIS_URL", "SLOTRUSH_PREHEAT_LEAD_SECONDS"] {
        assert!(help.contains(name), "{name}");
    }
    assert!(!help.contains("hush"), "{help}");
    Ok(())
}

/// Ends the program with the test.
struct Running(std::process::Child, u16);

impl Running {
    fn start(world: &World) -> Result<Self> {
        let port = free_port();
        let child = program()
            .env("SLOTRUSH_REDIS_URL", world.redis.url())
            .env("SLOTRUSH_AMQP_URL", &world.amqp_url)
            .env("SLOTRUSH_DATABASE_URL", world.database.url())
            .env("SLOTRUSH_QUEUE_PREFIX", &world.servers.broker.prefix)
            .env("SLOTRUSH_PARTITIONS", "1")
            .env("SLOTRUSH_AUDIT_INTERVAL_SECONDS", "1")
            .env("SLOTRUSH_WORKER_ADMIN_LISTEN", format!("127.0.0.1:{port}"))
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self(child, port))
    }

    async fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.1)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    async fn eventually(&self, path: &str, wanted: &str) -> Result<String> {
        eventually(&format!("{wanted} on {path}"), SOON, || async {
            self.get(path).await.ok().filter(|text| text.contains(wanted))
        })
        .await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_program_sells_persists_relays_audits_and_stops_when_told() -> Result<()> {
    let world = World::start(&[3]).await?;
    let mut running = Running::start(&world)?;
    running.eventually("/readyz", "\"ready\":true").await?;
    eventually("the release is on sale", SOON, || async {
        world.left().await.ok().filter(|left| *left == 3)
    })
    .await?;
    let published = world.book(0, world.slots[0]).await?;
    let stuck = world.win(1, world.slots[0]).await?;
    assert_eq!(world.eventually_row(stuck.id).await?.state, State::Booked);
    world.cancel(&published).await?;
    eventually("the place is on sale again", SOON, || async {
        world.left().await.ok().filter(|left| *left == 2)
    })
    .await?;
    world.eventually_empty_outbox().await?;
    running.eventually("/metrics", "slotrush_queue_messages").await?;
    // A pass rests between its parts.
    let metrics = running.eventually("/metrics", "slotrush_audit_timestamp_seconds 1").await?;
    for line in [
        "slotrush_violations{invariant=\"I11\"} 0",
        "slotrush_violations{invariant=\"I1\"} 0",
        // How often depends on how busy the machine is: what waits for long is relayed.
        "slotrush_bookings_persisted_total{state=\"booked\",reason=\"none\"} ",
        "slotrush_ledger_open{partition=\"0\"} 1",
        "slotrush_parked_total{reason=\"id_conflict\"} 0",
        "slotrush_parked_total{reason=\"undecodable\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let resident = metrics
        .lines()
        .find_map(|line| line.strip_prefix("process_resident_memory_bytes "))
        .context("resident memory")?;
    assert!(resident.parse::<f64>()? < 60e6, "{resident}");
    world.servers.ledger.change_release(world.admin, world.release, ReleaseVerb::Close).await?;
    eventually("nothing is on sale", SOON, || async {
        world.counts().await.ok().filter(|counts| counts.escrowed == 0)
    })
    .await?;

    let process = ProcessId::of(running.0.id()).context("it runs")?;
    process.signal(Signal::Term);
    let status = eventually("its end", Duration::from_secs(10), || {
        let status = running.0.try_wait().ok().flatten();
        async move { status }
    })
    .await?;
    assert!(status.success(), "{status}");
    Ok(())
}

/// The race: a release is over while another transaction holds its slots, for a minute where a partition with
/// very many is being frozen.
#[tokio::test]
async fn the_lead_is_kept_while_a_release_waits_for_its_slots() -> Result<()> {
    let world = World::start(&[3]).await?;
    let running = Running::start(&world)?;
    running.eventually("/metrics", "slotrush_reconciler_leads 1").await?;
    eventually("the release is on sale", SOON, || async {
        world.left().await.ok().filter(|left| *left == 3)
    })
    .await?;
    let holder = world.leave_open("SELECT FROM slot FOR UPDATE").await?;
    world.sql("UPDATE release SET closes_at = now()").await?;
    // A lead lasts three seconds: this one was renewed since the release began to wait.
    world
        .eventually_counts(
            "SELECT count(*) FROM pg_stat_activity a, lease l
             WHERE a.datname = current_database() AND a.wait_event_type = 'Lock'
               AND a.query LIKE '%end_releases%'
               AND l.kind = 'reconciler' AND l.expires_at - interval '3 s' > a.query_start",
        )
        .await?;
    drop(holder);
    world.eventually_counts("SELECT count(*) FROM release WHERE state = 'closed'").await
}
