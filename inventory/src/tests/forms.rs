//! The forms in which a slot's counters stand in Redis.

use super::world::{E1, NOW, P, WINDOW, World, booking, grant, is_held, release, session, slot};
use crate::{Grant, Hold, SlotCount, Step, keys};

const DONE: Step = Step::Done(());

/// What stands of slot 0.
async fn stored(world: &mut World) -> String {
    let mut command = redis::cmd("HGET");
    command.arg(keys::session(P, session())).arg(0);
    command.query_async(&mut world.raw).await.expect("there is one")
}

#[tokio::test]
async fn counters_are_kept_in_the_shortest_form_that_tells_them() {
    let mut world = World::open().await;
    assert_eq!(stored(&mut world).await, "3");
    assert_eq!(world.apply(E1, "one", &[grant(0, 5)]).await, DONE);
    assert_eq!(stored(&mut world).await, "5");
    assert!(is_held(&world.hold(&booking(1, 100)).await));
    assert_eq!(stored(&mut world).await, "4,5,1");
    assert_eq!(world.apply(E1, "one", &[grant(0, 6)]).await, DONE);
    assert_eq!(stored(&mut world).await, "5,6,1");

    // Under another release than its session's it names its own.
    let other = Grant { release: 2.into(), ..grant(0, 7) };
    assert_eq!(world.apply(E1, "one", &[other]).await, DONE);
    assert_eq!(stored(&mut world).await, "6,7,1,2");
    assert_eq!(world.hold(&booking(2, 101)).await, Hold::NotPreheated);
    world.inventory.set_window(P, 2.into(), WINDOW).await.expect("answers");
    assert!(is_held(&world.hold(&booking(2, 101)).await));
    assert_eq!(stored(&mut world).await, "5,7,2,2");
    assert_eq!(world.counters().await, Some((5, 7, 2)));
    assert_eq!(world.apply(E1, "one", &[grant(0, 7)]).await, DONE);
    assert_eq!(stored(&mut world).await, "5,7,2");
    assert!(is_held(&world.hold(&booking(3, 102)).await));
}

#[tokio::test]
async fn a_slot_of_which_nothing_is_sold_is_judged_by_the_window_of_its_session() {
    let world = World::open().await;
    let before = world.gateway.hold(P, &booking(1, 100), WINDOW.opens_at.plus_ms(-1)).await;
    assert_eq!(before.expect("answers"), Hold::NotOpen { opens_at: WINDOW.opens_at });
    assert_eq!(world.apply(E1, "one", &[grant(1, 0)]).await, DONE);
    let mut none = booking(2, 101);
    none.slot = slot(1);
    assert_eq!(world.gateway.hold(P, &none, NOW).await.expect("answers"), Hold::SoldOut);
}

#[tokio::test]
async fn counters_that_break_the_sum_are_shown_as_they_are() {
    let mut world = World::open().await;
    for broken in ["2,3,0", "4,3,0"] {
        world.run(&format!("HSET {} 0 {broken}", keys::session(P, session()))).await;
        assert_eq!(world.apply(E1, "one", &[grant(0, 3)]).await, DONE);
        assert_eq!(stored(&mut world).await, broken);
    }
    assert_eq!(world.counters().await, Some((4, 3, 0)));
}

/// What a version before wrote: each slot names its release, and the session none.
#[tokio::test]
async fn a_session_as_it_was_written_before_sells_on_and_keeps_its_form() {
    let mut world = World::open().await;
    let (key, release) = (keys::session(P, session()), release().get());
    world.run(&format!("HDEL {key} r")).await;
    world.run(&format!("HSET {key} 0 2,3,1,{release}")).await;
    assert!(is_held(&world.hold(&booking(1, 100)).await));
    assert_eq!(stored(&mut world).await, format!("1,3,2,{release}"));
    assert_eq!(world.apply(E1, "one", &[grant(0, 5)]).await, DONE);
    assert_eq!(stored(&mut world).await, format!("3,5,2,{release}"));
    assert_eq!(world.counters().await, Some((3, 5, 2)));
    let frozen = SlotCount { slot: slot(0), left: 3, granted: 5, sold: 2 };
    assert_eq!(world.freeze(E1, "one").await, Step::Done(vec![frozen]));
}

#[tokio::test]
async fn counters_that_can_not_be_read_sell_nothing_and_harm_no_other_slot() {
    let mut world = World::open().await;
    let key = keys::session(P, session());
    for unreadable in ["x", "3,10", "1,2,3,x", "-3"] {
        world.run(&format!("HSET {key} 1 {unreadable}")).await;
        let mut of_it = booking(1, 100);
        of_it.slot = slot(1);
        assert_eq!(world.hold(&of_it).await, Hold::NotPreheated, "{unreadable}");
    }
    assert!(is_held(&world.hold(&booking(2, 101)).await));
}

/// Twenty slots of a session as they are put on offer, beside a key for each.
#[tokio::test]
async fn an_open_slot_takes_a_few_bytes() {
    let mut world = World::open().await;
    let grants: Vec<_> = (0..20).map(|n| Grant { release: 42.into(), ..grant(n, 200) }).collect();
    world.run(&format!("DEL {}", keys::session(P, session()))).await;
    assert_eq!(world.apply(E1, "one", &grants).await, DONE);
    let mut command = redis::cmd("MEMORY");
    command.arg("USAGE").arg(keys::session(P, session()));
    let bytes: u64 = command.query_async(&mut world.raw).await.expect("Redis tells");
    assert!(bytes <= 20 * 12, "{bytes} bytes");
}
