//! What a program's account may do, and what it may not.

use redis::Client;
use redis::aio::MultiplexedConnection;
use secrecy::ExposeSecret as _;

use super::world::{
    GATEWAY, NOW, P, WINDOW, WORKER, World, booking, command, is_held, release, session, settings,
};

/// What neither may: administer the server, leave the ledgers, or change them by other commands.
const NEITHER: [&str; 24] = [
    "FLUSHALL",
    "FLUSHDB",
    "CONFIG GET *",
    "KEYS *",
    "SCAN 0",
    "ACL LIST",
    "ACL SETUSER gateway +@all",
    "SHUTDOWN NOSAVE",
    "MONITOR",
    "REPLICAOF 127.0.0.1 1",
    "SAVE",
    "CLIENT LIST",
    "SCRIPT FLUSH",
    "EVAL return{} 0",
    "PUBLISH a b",
    "SUBSCRIBE a",
    "RENAME {p7}:ledger {p7}:other",
    "GET {p7}:ledger",
    "HSET elsewhere a b",
    "DEL p7:ledger",
    "DEL {p7}:ledger",
    "DEL {p7}:out",
    "HDEL {p7}:w:1 100",
    "HINCRBY {p7}:s:1 0 1",
];

/// The worker's steps: a gateway neither opens, freezes, names nor drops anything of a ledger.
const NOT_THE_GATEWAY: [&str; 5] = [
    "HSET {p7}:ledger state open",
    "HSETNX {p7}:ledger e 1",
    "HSET {p7}:ledger run_id 0123",
    "DEL {p7}:s:1",
    "HDEL {p7}:ledger e",
];

/// The gateway's: a worker never puts a booking in the outbox.
const NOT_THE_WORKER: [&str; 3] =
    ["HSET {p7}:out 1 {}", "HSETNX {p7}:out 1 {}", "HDEL {p7}:releases 1"];

#[tokio::test]
async fn a_programs_account_touches_the_ledgers_as_its_program_does_and_nothing_else() {
    let mut world = World::open().await;
    for (user, not_it) in [(GATEWAY, &NOT_THE_GATEWAY[..]), (WORKER, &NOT_THE_WORKER[..])] {
        let mut program = log_in(&world, user).await;
        for line in NEITHER.iter().chain(not_it) {
            let error = command(line).query_async::<redis::Value>(&mut program).await;
            let error = error.expect_err(line);
            assert_eq!(error.code(), Some("NOPERM"), "{user}: {line}: {error}");
        }
    }
    let size: u64 = redis::cmd("DBSIZE").query_async(&mut world.raw).await.expect("the owner may");
    assert!(size > 0, "nothing is gone");
}

#[tokio::test]
async fn a_script_of_their_own_may_no_more_than_its_account() {
    let world = World::open().await;
    let tried = [
        (GATEWAY, "HSET", "{p7}:ledger", "state"),
        (GATEWAY, "DEL", "{p7}:s:1", ""),
        (WORKER, "HSET", "{p7}:out", "1"),
        (WORKER, "DEL", "{p7}:out", ""),
    ];
    for (user, verb, key, field) in tried {
        let mut program = log_in(&world, user).await;
        let more = if field.is_empty() { "" } else { ", ARGV[1], 'x'" };
        let code = format!("return redis.call('{verb}', KEYS[1]{more})");
        let mut load = redis::cmd("SCRIPT");
        let digest: String =
            load.arg("LOAD").arg(code).query_async(&mut program).await.expect("it may load");
        let mut call = redis::cmd("EVALSHA");
        call.arg(digest).arg(1).arg(key).arg(field);
        let error = call.query_async::<redis::Value>(&mut program).await.expect_err(key);
        let error = error.to_string();
        assert!(error.contains("The user executing the script can't"), "{user}: {verb}: {error}");
    }
}

#[tokio::test]
async fn a_gateways_account_does_all_that_gateways_do() {
    let world = World::open().await;
    let (gateway, first) = (&world.gateway, booking(1, 100));
    assert!(is_held(&world.hold(&first).await));
    assert!(gateway.known(P, session(), first.patient).await.expect("answers").is_some());
    assert_eq!(gateway.find(first.id).await.expect("answers"), Some(first.clone()));
    let (_, outbox) = gateway.scan_outbox(P, 0, 10).await.expect("answers");
    assert_eq!(outbox.bookings, std::slice::from_ref(&first));
    assert!(gateway.inspect(P).await.expect("answers").ledger.is_some());
    assert_eq!(gateway.snapshot(P, &[session()]).await.expect("answers").len(), 1);
    gateway.settle(P, &[(first.clone(), false)]).await.expect("answers");
    assert_eq!(gateway.find(first.id).await.expect("answers"), None);
    let paused = crate::Window { paused: true, version: 2, ..WINDOW };
    gateway.set_window(P, release(), paused).await.expect("answers");
    assert_eq!(gateway.hold(P, &booking(2, 101), NOW).await.expect("answers"), crate::Hold::Paused);
    gateway.ping().await.expect("answers");
}

async fn log_in(world: &World, user: &str) -> MultiplexedConnection {
    let url = settings(&world.redis, user).url;
    let client = Client::open(url.expose_secret()).expect("the address is well-formed");
    client.get_multiplexed_async_connection().await.expect("it may log in")
}
