//! Settling, and reading the outbox.

use std::collections::BTreeMap;

use booking::{Booking, Digest, Epoch, PatientId, SessionId, SlotId};

use super::world::{E1, E2, P, World, again, booking, grant, id, is_held, nonce, session, slot};
use crate::{Grant, Hold, Step, keys};

async fn outbox_len(world: &World) -> u64 {
    world.inventory.inspect(P).await.expect("answers").outbox_len
}

async fn settled(world: &World) -> u64 {
    world.inventory.inspect(P).await.expect("answers").ledger.expect("a ledger").settled
}

#[tokio::test]
async fn settling_twice_counts_once() {
    let world = World::open().await;
    let first = booking(1, 100);
    assert!(is_held(&world.hold(&first).await));
    for _ in 0..2 {
        world.settle(&first, true).await;
        assert_eq!((outbox_len(&world).await, settled(&world).await), (0, 1));
    }
    // One that never stood in this outbox counts for nothing.
    world.settle(&booking(2, 101), true).await;
    assert_eq!(settled(&world).await, 1);
    assert_eq!(world.hold(&booking(3, 102)).await, Hold::Held { left: 1, ticket: 2, settled: 1 });
}

#[tokio::test]
async fn settling_makes_no_ledger_where_there_is_none() {
    let mut world = World::open().await;
    let first = booking(1, 100);
    assert!(is_held(&world.hold(&first).await));
    world.run(&format!("DEL {}", keys::ledger(P))).await;
    world.settle(&first, true).await;
    assert!(world.prepare("two", E1, false).await.is_some());
    assert_eq!((outbox_len(&world).await, settled(&world).await), (0, 0));
}

#[tokio::test]
async fn a_settled_live_booking_still_stands_for_its_patient() {
    let world = World::open().await;
    let first = booking(1, 100);
    assert!(is_held(&world.hold(&first).await));
    world.settle(&first, true).await;
    assert_eq!(world.hold(&booking(2, 100)).await, Hold::AlreadyBooked { id: id(1) });
}

#[tokio::test]
async fn a_rejected_booking_frees_its_patient() {
    let world = World::open().await;
    let first = booking(1, 100);
    assert!(is_held(&world.hold(&first).await));
    world.settle(&first, false).await;
    assert!(is_held(&world.hold(&booking(2, 100)).await));
}

#[tokio::test]
async fn settling_another_booking_never_replaces_a_live_one() {
    let world = World::open().await;
    assert!(is_held(&world.hold(&booking(1, 100)).await));
    let booked = Hold::AlreadyBooked { id: id(1) };
    for live in [true, false] {
        world.settle(&booking(2, 100), live).await;
        assert_eq!(world.hold(&booking(3, 100)).await, booked, "live: {live}");
    }
}

#[tokio::test]
async fn a_live_booking_replaces_a_dead_one_and_a_dead_one_does_not() {
    let world = World::open().await;
    let first = booking(1, 100);
    assert!(is_held(&world.hold(&first).await));
    world.settle(&first, false).await;
    world.settle(&booking(2, 100), false).await;
    let replayed = Hold::Replayed { id: id(1), epoch: E1, live: false };
    assert_eq!(world.hold(&again(&first, 9)).await, replayed);
    world.settle(&booking(3, 100), true).await;
    assert_eq!(world.hold(&booking(4, 100)).await, Hold::AlreadyBooked { id: id(3) });
}

#[tokio::test]
async fn a_late_settle_does_not_revive_a_cancelled_booking() {
    let world = World::open().await;
    let first = booking(1, 100);
    assert!(is_held(&world.hold(&first).await));
    // The cancellation overtakes the worker that persisted the booking.
    world.settle(&first, false).await;
    world.settle(&first, true).await;
    let replayed = Hold::Replayed { id: id(1), epoch: E1, live: false };
    assert_eq!(world.hold(&again(&first, 2)).await, replayed);
}

#[tokio::test]
async fn a_booking_unknown_to_redis_is_remembered_when_settled() {
    let world = World::open().await;
    let (live, dead) = (booking(1, 100), booking(2, 101));
    world.settle(&live, true).await;
    world.settle(&dead, false).await;
    assert_eq!(world.hold(&booking(3, 100)).await, Hold::AlreadyBooked { id: id(1) });
    let replayed = Hold::Replayed { id: id(2), epoch: E1, live: false };
    assert_eq!(world.hold(&again(&dead, 4)).await, replayed);
}

#[tokio::test]
async fn many_are_settled_in_several_calls() {
    let mut world = World::open().await;
    let slots = [77, 78, 79].map(|session| SlotId::of(SessionId::from(session), 0));
    for slot in slots {
        let (session, grants) = (slot.session(), [Grant { slot, ..grant(0, 250) }]);
        let applied = world.inventory.apply(P, E1, &nonce("one"), session, &grants, &[]).await;
        assert_eq!(applied.expect("answers"), Step::Done(()));
    }
    // Of three sessions by turns, so that no call begins with the one it ended with before.
    let bookings: Vec<_> = (1..=250)
        .zip(slots.into_iter().cycle())
        .map(|(n, slot)| (Booking { slot, ..booking(n, n) }, n % 2 == 0))
        .collect();
    for (booking, _) in &bookings {
        assert!(is_held(&world.hold(booking).await));
    }
    world.run("SCRIPT FLUSH").await;
    world.inventory.settle(P, &bookings).await.expect("answers");
    assert_eq!((outbox_len(&world).await, settled(&world).await), (0, 250));
    for (booking, is_live) in &bookings {
        let replayed = Hold::Replayed { id: booking.id, epoch: E1, live: *is_live };
        assert_eq!(world.hold(&again(booking, 300)).await, replayed);
    }
    world.inventory.settle(P, &[]).await.expect("nothing to do");
}

#[tokio::test]
async fn bookings_of_several_sessions_are_settled_each_in_its_own() {
    let world = World::open().await;
    let elsewhere = SlotId::of(SessionId::from(78), 0);
    let there = |booking: Booking| Booking { slot: elsewhere, ..booking };
    let (here, away, gone) = (booking(1, 100), there(booking(2, 100)), there(booking(3, 101)));
    let settled = [(here, true), (away, true), (gone.clone(), false)];
    world.inventory.settle(P, &settled).await.expect("answers");
    assert_eq!(world.hold(&booking(4, 100)).await, Hold::AlreadyBooked { id: id(1) });
    assert_eq!(world.hold(&there(booking(4, 100))).await, Hold::AlreadyBooked { id: id(2) });
    let replayed = Hold::Replayed { id: id(3), epoch: E1, live: false };
    assert_eq!(world.hold(&again(&gone, 5)).await, replayed);
    assert!(is_held(&world.hold(&booking(6, 101)).await), "nobody is known here");
}

#[tokio::test]
async fn a_scan_meets_every_entry_and_sets_unreadable_ones_aside() {
    let mut world = World::open().await;
    assert_eq!(world.apply(E1, "one", &[grant(0, 1_000)]).await, Step::Done(()));
    for n in 1..=1_000 {
        assert!(is_held(&world.hold(&booking(n, n)).await));
    }
    world.run(&format!("HSET {} 5 {{\"epoch\":2}}", keys::out(P))).await;
    world.run(&format!("HSET {} 6 junk", keys::out(P))).await;

    let (mut cursor, mut seen, mut unreadable) = (0, BTreeMap::new(), BTreeMap::new());
    loop {
        let (next, outbox) = world.inventory.scan_outbox(P, cursor, 100).await.expect("answers");
        assert!(outbox.bookings.len() < 300);
        seen.extend(outbox.bookings.into_iter().map(|booking| (booking.id, booking)));
        unreadable.extend(outbox.unreadable);
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(seen.len(), 1_000);
    assert_eq!(seen[&id(7)], booking(7, 7));
    let junk = [("5", "{\"epoch\":2}"), ("6", "junk")];
    assert!(unreadable.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(junk));

    let epochs = world.inventory.outbox_epochs(P).await.expect("answers");
    assert_eq!(epochs, BTreeMap::from([(Epoch::NONE, 1), (E1, 1_000), (E2, 1)]));
}

#[tokio::test]
async fn an_empty_outbox_has_nothing_to_read() {
    let world = World::empty().await;
    let (cursor, outbox) = world.inventory.scan_outbox(P, 0, 100).await.expect("answers");
    assert_eq!((cursor, outbox), (0, crate::Outbox::default()));
    assert_eq!(world.inventory.outbox_epochs(P).await.expect("answers"), BTreeMap::new());
    assert_eq!(world.inventory.find(id(1)).await.expect("answers"), None);
}

#[tokio::test]
async fn ids_of_sixty_three_bits_survive_lua() {
    let world = World::open().await;
    let large = Booking {
        id: i64::MAX.into(),
        patient: PatientId::from(i64::MAX - 1),
        request: Digest::of_request(slot(0), PatientId::from(i64::MAX - 1)),
        ..booking(1, 100)
    };
    let other =
        Booking { id: (i64::MAX - 1).into(), key: Digest::of_key("other"), ..large.clone() };
    assert!(is_held(&world.hold(&large).await));
    assert_eq!(world.hold(&other).await, Hold::AlreadyBooked { id: i64::MAX.into() });
    world.settle(&other, false).await;
    assert_eq!(world.hold(&other).await, Hold::AlreadyBooked { id: i64::MAX.into() });
    assert_eq!(world.inventory.snapshot(P, &[session()]).await.expect("answers").len(), 1);
    world.settle(&large, true).await;
    assert_eq!(outbox_len(&world).await, 0);
}
