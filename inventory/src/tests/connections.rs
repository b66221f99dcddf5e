//! Losing Redis and getting it back.

use std::time::{Duration, Instant};

use testkit::{eventually, free_port};

use super::world::{E1, GATEWAY, NOW, P, World, booking, id, is_held, nonce, settings, wait_until};
use crate::{Error, Hold, Inventory, Settings};

#[tokio::test]
async fn a_malformed_address_is_refused_without_being_told() {
    for url in ["", "localhost", "http://user:secret@host", "redis://user:secret@host:x"] {
        let settings =
            Settings { url: url.to_owned().into(), connections: 1, response_timeout_ms: 100 };
        let error = Inventory::start(&settings).expect_err("is malformed").to_string();
        assert!(error.contains("malformed") && !error.contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn without_redis_every_call_is_unavailable_at_once() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let settings = Settings { url: url.into(), connections: 2, response_timeout_ms: 500 };
    let inventory = Inventory::start(&settings).expect("the address is well-formed");
    assert!(!inventory.is_up());
    let hold = inventory.hold(P, &booking(1, 100), NOW).await;
    assert!(matches!(hold, Err(Error::Unavailable)), "{hold:?}");
    assert!(matches!(inventory.ping().await, Err(Error::Unavailable)));
    assert!(matches!(inventory.inspect(P).await, Err(Error::Unavailable)));
    assert!(matches!(inventory.find(id(1)).await, Err(Error::Unavailable)));
}

#[tokio::test]
async fn forgotten_scripts_are_loaded_again() {
    let mut world = World::open().await;
    for n in 1..=2 {
        world.run("SCRIPT FLUSH").await;
        assert!(is_held(&world.hold(&booking(n, n)).await));
    }
    world.run("SCRIPT FLUSH").await;
    assert_eq!(world.counters().await, Some((1, 3, 2)));
    world.run("SCRIPT FLUSH").await;
    world.settle(&booking(1, 1), true).await;
}

#[tokio::test]
async fn a_killed_redis_is_noticed_and_its_return_too() {
    let mut world = World::open().await;
    assert!(is_held(&world.hold(&booking(1, 100)).await));
    world.kill().await;
    // The first call on each connection may have been sent; from then on it is certain.
    for _ in 0..2 {
        let hold = world.try_hold(&booking(2, 101)).await;
        assert!(matches!(hold, Err(Error::Unknown | Error::Unavailable)), "{hold:?}");
    }
    let hold = world.try_hold(&booking(2, 101)).await;
    assert!(matches!(hold, Err(Error::Unavailable)), "{hold:?}");
    assert!(!world.gateway.is_up());
    assert!(matches!(world.inventory.inspect(P).await, Err(Error::Unavailable | Error::Unknown)));

    // The worker's connections have asked nothing, so only their probe can tell.
    world.wait_until_down().await;
    world.redis.restart().await.expect("comes back");
    let since = Instant::now();
    world.wait_until_up().await;
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    world.inventory.ping().await.expect("answers");
    assert_eq!(world.hold(&booking(2, 101)).await, Hold::Fenced);
    assert!(world.inventory.inspect(P).await.expect("answers").ledger.is_some());
}

#[tokio::test]
async fn a_hold_that_got_no_answer_may_have_run() {
    let world = World::open().await;
    let first = booking(1, 100);
    let hasty = Settings { response_timeout_ms: 200, ..settings(&world.redis, GATEWAY) };
    let hasty = Inventory::start(&hasty).expect("the address is well-formed");
    wait_until(&hasty, true).await;
    world.redis.pause();
    let hold = hasty.hold(P, &first, NOW).await;
    assert!(matches!(hold, Err(Error::Unknown)), "{hold:?}");
    wait_until(&hasty, false).await;
    let hold = hasty.hold(P, &first, NOW).await;
    assert!(matches!(hold, Err(Error::Unavailable)), "{hold:?}");

    world.redis.resume();
    wait_until(&hasty, true).await;
    let found = eventually("it ran after all", Duration::from_secs(5), || async {
        world.inventory.find(id(1)).await.ok().flatten()
    });
    assert_eq!(found.await.expect("ran"), first);
    let replayed = Hold::Replayed { id: id(1), epoch: E1, live: true };
    assert_eq!(world.hold(&booking(1, 100)).await, replayed);
    assert_eq!(world.counters().await, Some((2, 3, 1)));
}

#[tokio::test]
async fn a_replica_is_not_up() {
    let mut world = World::open().await;
    world.run(&format!("REPLICAOF 127.0.0.1 {}", free_port())).await;
    world.wait_until_down().await;
    assert!(matches!(world.try_hold(&booking(1, 100)).await, Err(Error::Unavailable)));
    let prepared = world.inventory.prepare(P, &nonce("two"), E1, true).await;
    assert!(matches!(prepared, Err(Error::Unavailable)), "{prepared:?}");
    world.run("REPLICAOF NO ONE").await;
    world.wait_until_up().await;
}

#[tokio::test]
async fn a_call_lost_with_its_connection_is_unknown_and_the_next_one_is_served() {
    let mut world = World::open().await;
    let single = Settings { connections: 1, ..settings(&world.redis, GATEWAY) };
    let inventory = Inventory::start(&single).expect("the address is well-formed");
    wait_until(&inventory, true).await;
    world.run("CLIENT KILL TYPE normal SKIPME yes").await;
    let lost = inventory.ping().await;
    assert!(matches!(lost, Err(Error::Unknown | Error::Unavailable)), "{lost:?}");
    eventually("is served", Duration::from_secs(5), || async { inventory.ping().await.ok() })
        .await
        .expect("is served in time");
}

#[tokio::test]
async fn what_is_no_hash_is_refused() {
    let mut world = World::open().await;
    world.run(&format!("SET {} x", crate::keys::out(P))).await;
    let hold = world.try_hold(&booking(1, 100)).await;
    assert!(matches!(hold, Err(Error::Refused(_))), "{hold:?}");
    let find = world.inventory.find(id(1)).await;
    assert!(matches!(find, Err(Error::Refused(_))), "{find:?}");
}

#[tokio::test]
async fn connections_end_with_the_last_handle() {
    let mut world = World::open().await;
    let clients = async |raw: &mut redis::aio::MultiplexedConnection| -> usize {
        let list: String = redis::cmd("CLIENT")
            .arg("LIST")
            .query_async(raw)
            .await
            .expect("Redis tells its clients");
        list.lines().count()
    };
    assert!(clients(&mut world.raw).await > 1);
    let World { redis, gateway, inventory, raw } = world;
    drop(gateway);
    let other = inventory.clone();
    drop(inventory);
    other.ping().await.expect("answers");
    drop(other);
    eventually("only the test is left", Duration::from_secs(5), || {
        let mut raw = raw.clone();
        async move { (clients(&mut raw).await == 1).then_some(()) }
    })
    .await
    .expect("the connections end");
    drop(redis);
}
