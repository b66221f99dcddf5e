//! Fencing: a ledger sells only on the life of Redis that it was granted to.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use testkit::{Redis, eventually, free_port};

use super::world::{
    E1, E2, NOW, P, World, accounts, booking, command, connect, grant, id, is_held, nonce, session,
};
use crate::{Hold, Prepared, Step, hold, step};

#[tokio::test]
async fn a_wrong_run_id_or_replid_fences_winners_alone() {
    for field in ["run_id", "replid"] {
        let mut world = World::open().await;
        assert!(is_held(&world.hold(&booking(1, 100)).await));
        world.tamper(field, "0123456789abcdef").await;
        assert_eq!(world.hold(&booking(2, 101)).await, Hold::Fenced, "{field}");
        assert_eq!(world.counters().await, Some((2, 3, 1)), "{field}");
        assert_eq!(world.inventory.find(id(2)).await.expect("answers"), None, "{field}");
        // Whoever loses anyway learns why, and a replay is no sale.
        assert!(matches!(world.hold(&booking(1, 100)).await, Hold::Replayed { .. }), "{field}");
    }
}

#[tokio::test]
async fn a_restarted_redis_is_fenced_until_the_next_epoch() {
    let mut world = World::open().await;
    let old = world.inventory.inspect(P).await.expect("answers").term;
    world.kill().await;
    world.wait_until_down().await;
    world.redis.restart().await.expect("comes back");
    world.wait_until_up().await;

    assert_eq!(world.hold(&booking(1, 100)).await, Hold::Fenced);
    assert_eq!(world.apply(E1, "one", &[grant(0, 9)]).await, Step::Refused);
    assert_eq!(world.freeze(E1, "one").await, Step::Refused);
    assert_eq!(world.open_as(E1, &old, "one").await, Step::Refused);

    let term = world.prepare("two", E1, false).await.expect("the ledger is not true");
    assert_ne!(term.run_id, old.run_id);
    assert_eq!(world.open_as(E2, &term, "two").await, Step::Done(()));
    assert_eq!(world.apply(E2, "two", &[grant(0, 1)]).await, Step::Done(()));
    let mut now = booking(2, 101);
    now.epoch = E2;
    assert!(is_held(&world.hold(&now).await));
}

#[tokio::test]
async fn a_flushed_redis_sells_nothing_until_the_next_epoch() {
    let mut world = World::open().await;
    let term = world.inventory.inspect(P).await.expect("answers").term;
    assert!(is_held(&world.hold(&booking(1, 100)).await));
    world.run("FLUSHALL").await;
    assert_eq!(world.open_as(E1, &term, "one").await, Step::Refused);
    assert_eq!(world.hold(&booking(2, 101)).await, Hold::Shut);
    // Same run id, same replication id: only the nonce tells that it is another ledger.
    assert_eq!(world.prepare("two", E1, false).await, Some(term.clone()));
    assert_eq!(world.open_as(E1, &term, "one").await, Step::Refused);
    assert_eq!(world.hold(&booking(2, 101)).await, Hold::Shut);
}

/// R1 sells, R2 takes over without the last sales, R1 comes back as R2's replica and is promoted:
/// same process, same run id, older data. Only the replication id tells.
#[tokio::test]
async fn a_failback_to_the_first_primary_is_fenced() {
    let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    let (first, second) = (replicable(&folders[0]).await, replicable(&folders[1]).await);
    let mut second_raw = connect(&second).await;
    let first_port = first.port();
    let mut world = World::on(first).await;
    // A primary takes a new replication id when its first replica comes, so that comes first.
    follow(&mut second_raw, first_port).await;
    world.open_first(10).await;
    // WAIT looks at the writes of its own connection.
    world.run("SET mark 1").await;
    let in_step = command("WAIT 1 10000").query_async(&mut world.raw).await;
    assert_eq!(in_step, Ok(1));
    command("REPLICAOF NO ONE").exec_async(&mut second_raw).await.expect("is promoted");
    for n in 1..=3 {
        assert!(is_held(&world.hold(&booking(n, n)).await));
    }
    let before = world.inventory.inspect(P).await.expect("answers").term;
    assert_eq!(world.counters().await, Some((7, 10, 3)));

    follow(&mut world.raw, second.port()).await;
    world.wait_until_down().await;
    world.run("REPLICAOF NO ONE").await;
    world.wait_until_up().await;

    let after = world.inventory.inspect(P).await.expect("answers");
    assert_eq!(after.term.run_id, before.run_id);
    assert_ne!(after.term.replid, before.replid);
    assert_eq!(after.ledger.expect("the ledger came back").term, before);
    assert_eq!(world.counters().await, Some((10, 10, 0)), "three sales are gone");

    assert_eq!(world.hold(&booking(4, 4)).await, Hold::Fenced);
    assert_eq!(world.apply(E1, "one", &[grant(0, 11)]).await, Step::Refused);
    assert_eq!(world.freeze(E1, "one").await, Step::Refused);
    assert!(world.prepare("two", E1, false).await.is_some());
}

/// Redis gives a primary a new replication id when its first replica attaches. Harmless, but no
/// quota is sold until the next epoch: replicas belong beside a primary before it is preheated.
#[tokio::test]
async fn a_first_replica_fences_a_lone_primary() {
    let folder = tempfile::tempdir().expect("a folder");
    let replica = replicable(&folder).await;
    let world = World::open().await;
    follow(&mut connect(&replica).await, world.redis.port()).await;
    assert_eq!(world.hold(&booking(1, 100)).await, Hold::Fenced);
    assert!(world.prepare("two", E1, false).await.is_some());
}

/// A primary that was just demoted still has the ledger's term, and a replica may be writable.
#[tokio::test]
async fn a_demoted_primary_takes_no_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut world = World::on(replicable(&folder).await).await;
    world.open_first(3).await;
    let term = world.inventory.inspect(P).await.expect("answers").term;
    world.run(&format!("REPLICAOF 127.0.0.1 {}", free_port())).await;

    // On a connection of its own: the supervised ones go down as soon as they notice.
    let raw = &mut world.raw;
    let one = nonce("one");
    let wish = hold::Wish { booking: booking(1, 100), now: NOW };
    let held = hold::call(P, [&wish].into_iter()).run(raw).await.expect("answers");
    let held = hold::parse(held, 1).expect("is readable").remove(0);
    assert_eq!(held.expect("is readable"), Hold::Fenced);
    let applied = step::apply_call(P, E1, &one, session(), &[grant(0, 9)], &[]);
    let applied = applied.run(raw).await.expect("answers");
    assert_eq!(step::parse_step(applied).expect("is readable"), Step::Refused);
    let frozen = step::freeze_call(P, E1, &one, &[session()]).run(raw).await.expect("answers");
    assert_eq!(step::parse_frozen(frozen, &[session()]).expect("is readable"), Step::Refused);
    let opened = step::open_call(P, E1, &term, &one).run(raw).await.expect("answers");
    assert_eq!(step::parse_step(opened).expect("is readable"), Step::Refused);
    let prepared = step::prepare_call(P, &nonce("two"), E1, true).run(raw).await;
    assert_eq!(prepared.expect_err("is turned away").code(), Some("READONLY"));
}

#[tokio::test]
async fn a_prepared_shell_survives_a_look_but_not_a_restart() {
    let mut world = World::empty().await;
    let term = world.prepare("one", E1, true).await.expect("a shell is needed");
    world.redis.restart().await.expect("comes back");
    world.wait_until_up().await;
    let opened = eventually("an answer", Duration::from_secs(5), || async {
        world.inventory.open(P, E2, &term, &nonce("one")).await.ok()
    });
    assert_eq!(opened.await.expect("answers in time"), Step::Refused);
    let prepared = world.inventory.prepare(P, &nonce("two"), E1, true).await.expect("answers");
    assert!(matches!(prepared, Prepared::Shell(now) if now != term));
}

async fn replicable(folder: &tempfile::TempDir) -> Redis {
    let [gateway, worker] = &accounts();
    let config = ["repl-diskless-sync-delay 0", "replica-read-only no", gateway, worker];
    Redis::start_in(folder.path(), free_port(), &config).await.expect("Redis starts")
}

async fn follow(replica: &mut MultiplexedConnection, port: u16) {
    let follow = command(&format!("REPLICAOF 127.0.0.1 {port}"));
    follow.exec_async(replica).await.expect("follows");
    eventually("the replica is in step", Duration::from_secs(20), || {
        let mut replica = replica.clone();
        async move {
            let info: String = command("INFO replication").query_async(&mut replica).await.ok()?;
            info.contains("master_link_status:up").then_some(())
        }
    })
    .await
    .expect("is in step in time");
}
