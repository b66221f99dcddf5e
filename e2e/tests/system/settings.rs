//! Wrong settings.

use std::net::TcpListener;
use std::process::Output;

use anyhow::{Result, ensure};
use e2e::command;

const EXIT_SETTINGS: i32 = 2;

#[test]
fn a_bad_setting_ends_each_program_with_one_line_that_names_it_before_a_port_opens() -> Result<()> {
    // Whoever tried to open these ports would complain of them.
    let (one, two) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    let keys = tempfile::tempdir()?;
    gateway::auth::keys::generate(keys.path())?;
    let key = |name| keys.path().join(name).display().to_string();
    let good = [
        ("SLOTRUSH_LISTEN", one.local_addr()?.to_string()),
        ("SLOTRUSH_ADMIN_LISTEN", two.local_addr()?.to_string()),
        ("SLOTRUSH_WORKER_ADMIN_LISTEN", two.local_addr()?.to_string()),
        ("SLOTRUSH_REDIS_URL", "redis://127.0.0.1:1".to_owned()),
        ("SLOTRUSH_AMQP_URL", "amqp://127.0.0.1:1".to_owned()),
        ("SLOTRUSH_DATABASE_URL", "postgres://127.0.0.1:1/none".to_owned()),
        ("SLOTRUSH_TOKEN_KEY_FILE", key(gateway::auth::keys::TOKEN_KEY)),
        ("SLOTRUSH_DATA_KEY_FILE", key(gateway::auth::keys::DATA_KEY)),
    ];
    let of_both = [
        ("SLOTRUSH_REDIS_URL", "http://hush@localhost"),
        ("SLOTRUSH_AMQP_URL", "nonsense"),
        ("SLOTRUSH_DATABASE_URL", ""),
        ("SLOTRUSH_PARTITIONS", "0"),
        ("SLOTRUSH_QUEUE_PREFIX", "A b"),
        ("SLOTRUSH_LOG", "=,="),
        ("SLOTRUSH_LOG_FORMAT", "xml"),
    ];
    let of_gateway = [
        ("SLOTRUSH_LISTEN", "nowhere"),
        ("SLOTRUSH_TOKEN_KEY_FILE", "/nonexistent/key"),
        ("SLOTRUSH_DATA_KEY_FILE", "/nonexistent/key"),
        ("SLOTRUSH_TOKEN_OLD_KEY_FILES", "/nonexistent/key"),
        ("SLOTRUSH_TRUSTED_PROXIES", "everybody"),
        ("SLOTRUSH_LIMITS", "sometimes"),
    ];
    let of_worker = [("SLOTRUSH_WORKER_ROLES", "consume,dance"), ("SLOTRUSH_PREFETCH", "0")];
    for (program, bad) in [
        ("gateway", &of_both[..]),
        ("gateway", &of_gateway),
        ("booking-worker", &of_both),
        ("booking-worker", &of_worker),
    ] {
        for (name, value) in bad {
            let line = refusal(program, &good, name, value)?;
            assert!(line.starts_with(&format!("{name}: ")), "{program}: {line}");
            assert!(!line.contains("hush"), "{line}");
        }
    }
    // With nothing wrong it is the port in use that they complain of.
    for (program, port) in
        [("gateway", "SLOTRUSH_LISTEN"), ("booking-worker", "SLOTRUSH_WORKER_ADMIN_LISTEN")]
    {
        let line = refusal(program, &good, port, &one.local_addr()?.to_string())?;
        assert!(line.starts_with(&format!("{port}: ")), "{program}: {line}");
    }
    Ok(())
}

fn refusal(program: &str, good: &[(&str, String)], name: &str, value: &str) -> Result<String> {
    let Output { status, stdout, stderr } = command(program, good)?.env(name, value).output()?;
    let text = String::from_utf8(stderr)?;
    ensure!(status.code() == Some(EXIT_SETTINGS), "{program} {name}={value}: {status} {text}");
    ensure!(stdout.is_empty() && text.trim_end().lines().count() == 1, "{program}: {text}");
    Ok(text.trim_end().to_owned())
}
