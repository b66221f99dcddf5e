//! What a program's account may not do.

use redis::Client;
use secrecy::ExposeSecret as _;

use super::world::{World, settings};

#[tokio::test]
async fn a_programs_account_touches_the_ledgers_and_nothing_else() {
    let mut world = World::open().await;
    let url = settings(&world.redis).url;
    let client = Client::open(url.expose_secret()).expect("the address is well-formed");
    let mut program = client.get_multiplexed_async_connection().await.expect("it may log in");
    for line in [
        "FLUSHALL",
        "FLUSHDB",
        "CONFIG GET *",
        "KEYS *",
        "SCAN 0",
        "ACL LIST",
        "ACL SETUSER program +@all",
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
    ] {
        let mut words = line.split(' ');
        let mut command = redis::cmd(words.next().expect("a word"));
        words.for_each(|word| {
            command.arg(word);
        });
        let error = command.query_async::<redis::Value>(&mut program).await.expect_err(line);
        assert_eq!(error.code(), Some("NOPERM"), "{line}: {error}");
    }
    let size: u64 = redis::cmd("DBSIZE").query_async(&mut world.raw).await.expect("the owner may");
    assert!(size > 0, "nothing is gone");
}
