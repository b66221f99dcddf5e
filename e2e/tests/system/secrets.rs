//! Secrets given to the programs, and everything they print.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::{Program, command};
use testkit::{eventually, free_port};

const SOON: Duration = Duration::from_secs(20);
const SECRET: &str = "hush7Q";

/// Settings as they should be, of servers that are not there.
fn settings(keys: &std::path::Path, port: u16) -> Vec<(&'static str, String)> {
    let key = |name| keys.join(name).display().to_string();
    vec![
        ("SLOTRUSH_REDIS_URL", format!("redis://someone:{SECRET}@127.0.0.1:1")),
        ("SLOTRUSH_AMQP_URL", format!("amqp://someone:{SECRET}@127.0.0.1:1/%2f")),
        ("SLOTRUSH_DATABASE_URL", format!("postgres://someone:{SECRET}@127.0.0.1:1/none")),
        ("SLOTRUSH_TOKEN_KEY_FILE", key(gateway::auth::keys::TOKEN_KEY)),
        ("SLOTRUSH_DATA_KEY_FILE", key(gateway::auth::keys::DATA_KEY)),
        ("SLOTRUSH_ADMIN_PASSWORD", format!("{SECRET}-password")),
        ("SLOTRUSH_LISTEN", "127.0.0.1:0".to_owned()),
        ("SLOTRUSH_ADMIN_LISTEN", format!("127.0.0.1:{port}")),
        ("SLOTRUSH_WORKER_ADMIN_LISTEN", format!("127.0.0.1:{port}")),
        ("SLOTRUSH_LOG", "trace".to_owned()),
    ]
}

fn lines_of(file: &std::path::Path) -> Result<Vec<String>> {
    Ok(std::fs::read_to_string(file)?.lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn neither_help_nor_errors_nor_logs_hold_a_secret_of_the_settings() -> Result<()> {
    let folder = tempfile::tempdir()?;
    gateway::auth::keys::generate(folder.path())?;
    let mut secrets = vec![SECRET.to_owned()];
    for name in [gateway::auth::keys::TOKEN_KEY, gateway::auth::keys::DATA_KEY] {
        let lines = lines_of(&folder.path().join(name))?;
        secrets.extend(lines.into_iter().filter(|line| !line.starts_with("-----")));
    }
    ensure!(secrets.len() == 3, "a line of each key: {}", secrets.len());
    let clean = |what: &str, text: &str| {
        let found = secrets.iter().any(|secret| text.contains(secret));
        assert!(!found, "a secret in what {what} printed: {text}");
    };
    for (program, args) in [
        ("gateway", &["--help"][..]),
        ("gateway", &["help", "create-admin"]),
        ("gateway", &["migrate"]),
        ("gateway", &["create-admin", "--login", "boss"]),
        ("gateway", &["--partitions=none"]),
        ("gateway", &["--amqp-url=http://someone:hush7Q@x"]),
        ("booking-worker", &["--help"]),
        ("booking-worker", &["--redis-url=http://someone:hush7Q@x"]),
        ("booking-worker", &["--no-such"]),
    ] {
        let all = settings(folder.path(), free_port());
        let output = command(program, &all)?.args(args).output()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        ensure!(!text.is_empty(), "{program} {args:?} says something");
        clean(&format!("{program} {args:?}"), &text);
    }
    for program in ["gateway", "booking-worker"] {
        let (port, log) = (free_port(), folder.path().join(program));
        let all = settings(folder.path(), port);
        let running = Program::start(program, all, port, log)?;
        // All three are tried, and what came of it is told.
        let said = eventually("complaints", SOON, || async {
            let log = running.log().ok()?;
            let is_told = log.contains("PostgreSQL") && log.lines().count() > 10;
            is_told.then_some(log)
        })
        .await?;
        clean(program, &said);
    }
    Ok(())
}
