//! The direct way: behind the gateway's front, and bare.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use testkit::{Programs, eventually, free_port};
use tokio::net::TcpStream;

use crate::command;
use crate::stack::Stack;

/// The usual way to book: lock the slot's row, look, insert, count, commit.
const DIRECT: &str = "\\set patient random(1, 2000000000)
BEGIN;
SELECT capacity - booked FROM slot WHERE id = 1 FOR UPDATE;
INSERT INTO appointment (slot_id, patient_id) VALUES (1, :patient);
UPDATE slot SET booked = booked + 1 WHERE id = 1;
COMMIT;
";
const TABLES: &str = include_str!("../../../direct/tables.sql");
/// Rows, and what the slot counts.
const COUNTED: &str = "SELECT (SELECT count(*) FROM appointment), (SELECT booked FROM slot)";
const CLIENTS: &str = "16";
const START_MAX: Duration = Duration::from_secs(20);

/// Lets a crowd book directly behind the gateway's front; returns bookings per second.
pub(super) async fn crowded(bookings: u32, stack: &Stack, folder: &Path) -> Result<f64> {
    let address = format!("127.0.0.1:{}", free_port());
    let database = database(stack);
    let mut server = stack.program("direct")?;
    server.env("DIRECT_LISTEN", &address).env("DIRECT_DATABASE_URL", &database);
    server.stdout(File::create(folder.join("direct.log"))?);
    let report = folder.join("direct.json");
    let mut crowd = stack.program("rush")?;
    crowd.arg("direct").env("SLOTRUSH_GATEWAY_URL", format!("http://{address}"));
    crowd.args(["--patients", &bookings.to_string()]).stdout(File::create(&report)?);
    let rush = async {
        eventually("the direct server", START_MAX, async || {
            TcpStream::connect(&address).await.ok()
        })
        .await?;
        command::succeed(&mut crowd).await
    };
    tokio::select! {
        ended = command::run(&mut server) => bail!("the direct server ended: {}", ended?),
        done = rush => done?,
    }
    let report: serde_json::Value = serde_json::from_str(&fs::read_to_string(report)?)?;
    let field = |name: &str| report[name].as_f64().with_context(|| format!("no {name} reported"));
    let (booked, answered_ms) = (field("booked")?, field("answered_ms")?);
    let counted = psql(&database)?.args(["-At", "-c", COUNTED]).stdout(Stdio::piped()).output()?;
    let counted = String::from_utf8_lossy(&counted.stdout).trim().to_owned();
    if booked < f64::from(bookings) || counted != format!("{bookings}|{bookings}") {
        bail!("of {bookings} {booked} were told of a place; rows and count are {counted}");
    }
    Ok(booked * 1_000.0 / answered_ms)
}

/// Books directly with pgbench for a while; returns bookings per second.
pub(super) async fn bare(seconds: u32, stack: &Stack, folder: &Path) -> Result<f64> {
    let database = database(stack);
    // It is there already in every round but the first.
    let make = ["-q", "-c", "CREATE DATABASE direct"];
    command::run(psql(&stack.database_url())?.args(make).stderr(Stdio::null())).await?;
    let make = ["-q", "-c", TABLES];
    command::succeed(psql(&database)?.args(make).stderr(Stdio::null())).await?;
    let script = folder.join("direct.sql");
    fs::write(&script, DIRECT)?;
    let output = folder.join("direct.txt");
    let mut pgbench = Command::new(bin()?.join("pgbench"));
    pgbench.args(["-n", "-c", CLIENTS, "-j", "2", "-M", "prepared"]);
    pgbench.args(["-T", &seconds.to_string(), "-f"]).arg(script).arg(&database);
    pgbench.stdout(File::create(&output)?).stderr(Stdio::null());
    command::succeed(&mut pgbench).await?;
    let text = fs::read_to_string(output)?;
    per_second(&text).context("pgbench told no rate")
}

/// Finds `tps = 2345.6 (without …)` in what pgbench printed.
fn per_second(pgbench: &str) -> Option<f64> {
    pgbench
        .lines()
        .find_map(|line| line.strip_prefix("tps = ")?.split_whitespace().next()?.parse().ok())
}

/// A database of its own on the stack's server.
fn database(stack: &Stack) -> String {
    let url = stack.database_url();
    let server = url.rsplit_once('/').map_or(url.as_str(), |(server, _)| server);
    format!("{server}/direct")
}

fn psql(database: &str) -> Result<Command> {
    let mut psql = Command::new(bin()?.join("psql"));
    psql.arg(database).stdout(Stdio::null());
    Ok(psql)
}

fn bin() -> Result<std::path::PathBuf> {
    Programs::find().postgres_bin.context("PostgreSQL's programs are not here")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_pgbench_is_read() {
        let text =
            "latency average = 6.5 ms\ntps = 2431.250000 (without initial connection time)\n";
        assert_eq!(per_second(text), Some(2431.25));
        assert_eq!(per_second("no rate"), None);
    }
}
