//! Every answer of a hold, and the order in which reasons are judged.

use booking::{Epoch, PatientId};

use super::world::{E1, E2, NOW, P, WINDOW, World, again, booking, id, is_held, release, slot};
use crate::{Hold, Step, Window, keys};

#[tokio::test]
async fn a_winner_takes_one_place_and_stands_in_the_outbox() {
    let world = World::open().await;
    let first = booking(1, 100);
    let held = Hold::Held { left: 2, ticket: 1, settled: 0 };
    assert_eq!(world.hold(&first).await, held);
    assert_eq!(world.counters().await, Some((2, 3, 1)));
    assert_eq!(world.inventory.find(id(1)).await.expect("answers"), Some(first));

    let held = Hold::Held { left: 1, ticket: 2, settled: 0 };
    assert_eq!(world.hold(&booking(2, 101)).await, held);
}

#[tokio::test]
async fn a_second_click_gets_the_first_answer_and_takes_nothing() {
    let world = World::open().await;
    let first = booking(1, 100);
    assert!(is_held(&world.hold(&first).await));
    let replayed = Hold::Replayed { id: id(1), epoch: E1, live: true };
    assert_eq!(world.hold(&first).await, replayed);
    assert_eq!(world.hold(&again(&first, 2)).await, replayed);
    assert_eq!(world.counters().await, Some((2, 3, 1)));
    assert_eq!(world.inventory.find(id(2)).await.expect("answers"), None);
}

#[tokio::test]
async fn a_replay_names_the_epoch_of_the_first_attempt() {
    let world = World::open().await;
    let first = booking(1, 100);
    assert!(is_held(&world.hold(&first).await));
    let term = world.prepare("two", E1, true).await.expect("the epoch is sealed");
    assert_eq!(world.open_as(E2, &term, "two").await, Step::Done(()));
    let mut later = again(&first, 2);
    later.epoch = E2;
    assert_eq!(world.hold(&later).await, Hold::Replayed { id: id(1), epoch: E1, live: true });
}

#[tokio::test]
async fn a_key_with_another_request_is_reused() {
    let world = World::open().await;
    let first = booking(1, 100);
    assert!(is_held(&world.hold(&first).await));
    let mut other = again(&first, 2);
    other.slot = slot(1);
    other.request = booking::Digest::of_request(slot(1), other.patient);
    assert_eq!(world.hold(&other).await, Hold::KeyReused);

    // Dead or alive: a key stands for one request.
    world.settle(&first, false).await;
    assert_eq!(world.hold(&other).await, Hold::KeyReused);
}

#[tokio::test]
async fn a_patient_has_one_live_booking_in_a_session() {
    let world = World::open().await;
    assert!(is_held(&world.hold(&booking(1, 100)).await));
    assert_eq!(world.hold(&booking(2, 100)).await, Hold::AlreadyBooked { id: id(1) });
    assert_eq!(world.counters().await, Some((2, 3, 1)));
}

#[tokio::test]
async fn a_cancelled_key_replayed_does_not_book_again_but_a_new_key_does() {
    let world = World::open().await;
    let first = booking(1, 100);
    assert!(is_held(&world.hold(&first).await));
    world.settle(&first, false).await;
    let dead = Hold::Replayed { id: id(1), epoch: E1, live: false };
    assert_eq!(world.hold(&again(&first, 2)).await, dead);
    assert_eq!(world.hold(&booking(3, 100)).await, Hold::Held { left: 1, ticket: 2, settled: 1 });
}

#[tokio::test]
async fn the_last_place_is_sold_once() {
    let world = World::open().await;
    for n in 1..=3 {
        assert!(is_held(&world.hold(&booking(n, n)).await));
    }
    assert_eq!(world.hold(&booking(4, 4)).await, Hold::SoldOut);
    assert_eq!(world.counters().await, Some((0, 3, 3)));
    let inspection = world.inventory.inspect(P).await.expect("answers");
    assert_eq!(inspection.outbox_len, 3);
}

#[tokio::test]
async fn another_epoch_than_the_callers_sells_nothing() {
    let world = World::open().await;
    let mut ahead = booking(1, 100);
    ahead.epoch = E2;
    assert_eq!(world.hold(&ahead).await, Hold::OtherEpoch { current: E1 });
    let mut behind = booking(1, 100);
    behind.epoch = Epoch::NONE;
    assert_eq!(world.hold(&behind).await, Hold::OtherEpoch { current: E1 });
}

#[tokio::test]
async fn without_an_open_ledger_nothing_is_sold() {
    let world = World::empty().await;
    assert_eq!(world.hold(&booking(1, 100)).await, Hold::Shut);
    let world = World::open().await;
    // A shell: the number of its epoch is still the caller's.
    world.prepare("two", E1, true).await.expect("the epoch is sealed");
    assert_eq!(world.hold(&booking(1, 100)).await, Hold::Shut);
}

#[tokio::test]
async fn a_frozen_ledger_sells_nothing() {
    let world = World::open().await;
    assert!(matches!(world.freeze(E1, "one").await, Step::Done(_)));
    assert_eq!(world.hold(&booking(1, 100)).await, Hold::Shut);
    assert_eq!(world.counters().await, Some((3, 3, 0)));
}

#[tokio::test]
async fn what_was_not_applied_is_not_preheated() {
    let mut world = World::open().await;
    let mut other_slot = booking(1, 100);
    other_slot.slot = slot(9);
    assert_eq!(world.hold(&other_slot).await, Hold::NotPreheated);
    let mut other_session = booking(1, 100);
    other_session.slot = booking::SlotId::from(78 << 8);
    assert_eq!(world.hold(&other_session).await, Hold::NotPreheated);

    world.run(&format!("DEL {}", keys::releases(P))).await;
    assert_eq!(world.hold(&booking(1, 100)).await, Hold::NotPreheated);
}

#[tokio::test]
async fn a_session_left_over_from_an_older_epoch_is_not_preheated() {
    let world = World::open().await;
    let term = world.prepare("two", E1, true).await.expect("the epoch is sealed");
    assert_eq!(world.open_as(E2, &term, "two").await, Step::Done(()));
    let mut now = booking(1, 100);
    now.epoch = E2;
    assert_eq!(world.hold(&now).await, Hold::NotPreheated);
}

#[tokio::test]
async fn a_release_opens_and_closes_to_the_millisecond() {
    let world = World::open().await;
    let at = async |now| world.gateway.hold(P, &booking(1, 100), now).await.expect("answers");
    let not_open = Hold::NotOpen { opens_at: WINDOW.opens_at };
    assert_eq!(at(WINDOW.opens_at.plus_ms(-1)).await, not_open);
    assert_eq!(at(WINDOW.closes_at).await, Hold::Closed);
    assert!(is_held(&at(WINDOW.opens_at).await));
    let last = world.gateway.hold(P, &booking(2, 101), WINDOW.closes_at.plus_ms(-1)).await;
    assert!(is_held(&last.expect("answers")));
}

#[tokio::test]
async fn a_paused_release_sells_nothing_until_it_goes_on() {
    let world = World::open().await;
    let set = async |window| world.inventory.set_window(P, release(), window).await;
    set(Window { paused: true, version: 2, ..WINDOW }).await.expect("answers");
    assert_eq!(world.hold(&booking(1, 100)).await, Hold::Paused);
    // A late write of an older version changes nothing.
    set(WINDOW).await.expect("answers");
    assert_eq!(world.hold(&booking(1, 100)).await, Hold::Paused);
    set(Window { version: 3, ..WINDOW }).await.expect("answers");
    set(Window { version: 3, ..WINDOW }).await.expect("answers");
    assert!(is_held(&world.hold(&booking(1, 100)).await));
}

#[tokio::test]
async fn a_patient_is_recognised_before_anything_else_is_judged() {
    let world = World::open().await;
    let first = booking(1, 100);
    assert!(is_held(&world.hold(&first).await));
    let after = NOW.plus_ms(1_000_000);
    let replayed = Hold::Replayed { id: id(1), epoch: E1, live: true };
    assert_eq!(world.gateway.hold(P, &first, after).await.expect("answers"), replayed);
    let other = booking(2, 100);
    let booked = Hold::AlreadyBooked { id: id(1) };
    assert_eq!(world.gateway.hold(P, &other, after).await.expect("answers"), booked);
}

#[tokio::test]
async fn two_hundred_at_once_get_fifty_places() {
    let mut world = World::empty().await;
    world.open_first(50).await;
    let tasks: Vec<_> = (1..=200)
        .map(|n| {
            let gateway = world.gateway.clone();
            tokio::spawn(async move { gateway.hold(P, &booking(n, n), NOW).await })
        })
        .collect();
    let (mut held, mut sold_out) = (0, 0);
    for task in tasks {
        match task.await.expect("does not panic").expect("answers") {
            Hold::Held { .. } => held += 1,
            Hold::SoldOut => sold_out += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((held, sold_out), (50, 150));
    assert_eq!(world.counters().await, Some((0, 50, 50)));
}

#[tokio::test]
async fn one_patients_fifty_clicks_at_once_take_one_place() {
    let world = World::open().await;
    let tasks: Vec<_> = (1..=50)
        .map(|n| {
            let gateway = world.gateway.clone();
            let mut click = booking(n, 100);
            click.patient = PatientId::from(100);
            tokio::spawn(async move { gateway.hold(P, &click, NOW).await })
        })
        .collect();
    let mut held = 0;
    for task in tasks {
        match task.await.expect("does not panic").expect("answers") {
            Hold::Held { .. } => held += 1,
            Hold::AlreadyBooked { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(held, 1);
    assert_eq!(world.counters().await, Some((2, 3, 1)));
}
