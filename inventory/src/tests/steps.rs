//! Prepare, open, apply, freeze: when they act, when they refuse, and each of them twice.

use booking::{Epoch, SessionId, SlotId, Term};

use super::world::{
    E1, E2, P, World, again, booking, grant, id, is_held, nonce, release, session, slot,
};
use crate::{Grant, Hold, SlotCount, Step, keys};

const DONE: Step = Step::Done(());

async fn head(world: &World) -> (Epoch, bool, String) {
    let inspection = world.inventory.inspect(P).await.expect("answers");
    let ledger = inspection.ledger.expect("there is a ledger");
    (ledger.epoch, ledger.open, ledger.nonce.0)
}

#[tokio::test]
async fn an_empty_redis_is_prepared_opened_and_filled_each_step_twice() {
    let world = World::empty().await;
    let nothing = world.inventory.inspect(P).await.expect("answers");
    assert_eq!((nothing.ledger, nothing.outbox_len), (None, 0));

    let term = world.prepare("one", Epoch::NONE, false).await.expect("a shell is needed");
    assert_eq!(term, nothing.term);
    assert_eq!(world.prepare("one", Epoch::NONE, false).await.as_ref(), Some(&term));
    assert_eq!(head(&world).await, (Epoch::NONE, false, "one".to_owned()));

    for _ in 0..2 {
        assert_eq!(world.open_as(E1, &term, "one").await, DONE);
        assert_eq!(head(&world).await, (E1, true, "one".to_owned()));
    }
    for _ in 0..2 {
        assert_eq!(world.apply(E1, "one", &[grant(0, 3)]).await, DONE);
        assert_eq!(world.counters().await, Some((3, 3, 0)));
    }
    let frozen = SlotCount { slot: slot(0), left: 3, granted: 3, sold: 0 };
    for _ in 0..2 {
        assert_eq!(world.freeze(E1, "one").await, Step::Done(vec![frozen]));
        assert_eq!(head(&world).await, (E1, false, "one".to_owned()));
    }
}

#[tokio::test]
async fn a_current_and_true_ledger_is_not_prepared_again() {
    let world = World::open().await;
    assert_eq!(world.prepare("two", E1, false).await, None);
    // Nor by a caller that is behind.
    assert_eq!(world.prepare("two", Epoch::NONE, true).await, None);
    assert_eq!(head(&world).await, (E1, true, "one".to_owned()));

    // A frozen one still has counters that PostgreSQL may not have read.
    assert!(matches!(world.freeze(E1, "one").await, Step::Done(_)));
    assert_eq!(world.prepare("two", E1, false).await, None);
    assert!(world.prepare("two", E1, true).await.is_some());
}

#[tokio::test]
async fn a_sealed_or_overtaken_ledger_is_prepared() {
    let world = World::open().await;
    assert!(world.prepare("two", E1, true).await.is_some());
    assert_eq!(head(&world).await, (Epoch::NONE, false, "two".to_owned()));
    let world = World::open().await;
    assert!(world.prepare("two", E2, false).await.is_some());
}

#[tokio::test]
async fn a_ledger_of_another_term_is_prepared() {
    for field in ["run_id", "replid"] {
        let mut world = World::open().await;
        world.tamper(field, "0123456789abcdef").await;
        let term = world.prepare("two", E1, false).await.expect("the ledger is not true");
        assert_eq!(world.inventory.inspect(P).await.expect("answers").term, term);
        // What was prepared but never opened may have lost its maker, and with it its nonce.
        assert!(world.prepare("three", E1, false).await.is_some());
    }
}

#[tokio::test]
async fn a_shell_stays_openable_until_it_is_prepared_again() {
    let world = World::open().await;
    let term = world.prepare("two", E1, true).await.expect("the epoch is sealed");
    // PostgreSQL opened epoch 2 with this nonce; Redis is one step behind.
    assert_eq!(world.open_as(E2, &term, "two").await, DONE);
    assert_eq!(world.prepare("three", E2, false).await, None);

    let term = world.prepare("three", E2, true).await.expect("the epoch is sealed");
    assert!(world.prepare("four", Epoch(3), false).await.is_some());
    assert_eq!(world.open_as(Epoch(3), &term, "three").await, Step::Refused);
}

#[tokio::test]
async fn who_and_outbox_outlive_the_ledger() {
    let world = World::open().await;
    let (first, done) = (booking(1, 100), booking(9, 109));
    assert!(is_held(&world.hold(&first).await));
    assert!(is_held(&world.hold(&done).await));
    world.settle(&done, true).await;
    let term = world.prepare("two", E1, true).await.expect("the epoch is sealed");
    assert_eq!(world.open_as(E2, &term, "two").await, DONE);
    let inspection = world.inventory.inspect(P).await.expect("answers");
    let ledger = inspection.ledger.expect("there is a ledger");
    assert_eq!((inspection.outbox_len, ledger.held, ledger.settled), (1, 2, 1));
    let mut second = again(&first, 2);
    second.epoch = E2;
    assert!(matches!(world.hold(&second).await, Hold::Replayed { .. }));
}

#[tokio::test]
async fn a_ledger_lost_alone_counts_its_outbox_as_held() {
    let mut world = World::open().await;
    assert!(is_held(&world.hold(&booking(1, 100)).await));
    world.run(&format!("DEL {}", keys::ledger(P))).await;
    assert!(world.prepare("two", E1, false).await.is_some());
    let ledger = world.inventory.inspect(P).await.expect("answers").ledger.expect("a shell");
    assert_eq!((ledger.held, ledger.settled), (1, 0));
}

#[tokio::test]
async fn open_never_creates_a_ledger() {
    let mut world = World::open().await;
    assert!(is_held(&world.hold(&booking(1, 100)).await));
    let term = world.inventory.inspect(P).await.expect("answers").term;
    world.run("FLUSHALL").await;
    assert_eq!(world.open_as(E1, &term, "one").await, Step::Refused);
    assert_eq!(world.inventory.inspect(P).await.expect("answers").ledger, None);
    assert_eq!(world.hold(&booking(2, 101)).await, Hold::Shut);
    assert_eq!(world.apply(E1, "one", &[grant(0, 3)]).await, Step::Refused);
}

#[tokio::test]
async fn open_takes_only_its_own_shell_on_its_own_term() {
    let world = World::empty().await;
    let term = world.prepare("one", Epoch::NONE, false).await.expect("a shell is needed");
    assert_eq!(world.open_as(E1, &term, "other").await, Step::Refused);
    let wrong = "0123456789abcdef".to_owned();
    let other_run = Term { run_id: wrong.clone(), ..term.clone() };
    assert_eq!(world.open_as(E1, &other_run, "one").await, Step::Refused);
    let other_replid = Term { replid: wrong, ..term.clone() };
    assert_eq!(world.open_as(E1, &other_replid, "one").await, Step::Refused);
    assert!(!head(&world).await.1);

    assert_eq!(world.open_as(E1, &term, "one").await, DONE);
    assert_eq!(world.open_as(E2, &term, "one").await, Step::Refused);
    assert_eq!(head(&world).await, (E1, true, "one".to_owned()));
}

#[tokio::test]
async fn a_frozen_ledger_is_never_opened_again() {
    let world = World::open().await;
    let term = world.inventory.inspect(P).await.expect("answers").term;
    assert!(matches!(world.freeze(E1, "one").await, Step::Done(_)));
    assert_eq!(world.open_as(E1, &term, "one").await, Step::Refused);
    assert_eq!(world.hold(&booking(1, 100)).await, Hold::Shut);
    assert_eq!(world.apply(E1, "one", &[grant(0, 9)]).await, Step::Refused);
}

#[tokio::test]
async fn grants_are_cumulative_in_any_order() {
    let world = World::open().await;
    assert!(is_held(&world.hold(&booking(1, 100)).await));
    for (granted, expected) in [(5, (4, 5, 1)), (5, (4, 5, 1)), (4, (4, 5, 1)), (6, (5, 6, 1))] {
        assert_eq!(world.apply(E1, "one", &[grant(0, granted)]).await, DONE);
        assert_eq!(world.counters().await, Some(expected));
    }
}

#[tokio::test]
async fn a_late_smaller_grant_does_not_move_the_slot_to_an_older_release() {
    let world = World::open().await;
    let older = Grant { release: 1.into(), ..grant(0, 2) };
    assert_eq!(world.apply(E1, "one", &[older]).await, DONE);
    assert!(is_held(&world.hold(&booking(1, 100)).await));
    // An equal grant moves it: nothing tells which is later, and the window must be changeable.
    let moved = Grant { release: 1.into(), ..grant(0, 3) };
    assert_eq!(world.apply(E1, "one", &[moved]).await, DONE);
    assert_eq!(world.hold(&booking(2, 101)).await, Hold::NotPreheated);
}

#[tokio::test]
async fn apply_takes_only_the_true_open_ledger_of_its_epoch_and_nonce() {
    let mut world = World::open().await;
    let more = [grant(0, 9)];
    assert_eq!(world.apply(E2, "one", &more).await, Step::Refused);
    assert_eq!(world.apply(E1, "two", &more).await, Step::Refused);
    for field in ["run_id", "replid"] {
        let term = world.inventory.inspect(P).await.expect("answers").term;
        let (true_value, field) = match field {
            "run_id" => (term.run_id, field),
            _ => (term.replid, field),
        };
        world.tamper(field, "0123456789abcdef").await;
        assert_eq!(world.apply(E1, "one", &more).await, Step::Refused, "{field}");
        assert_eq!(world.freeze(E1, "one").await, Step::Refused, "{field}");
        world.tamper(field, &true_value).await;
    }
    assert_eq!(world.counters().await, Some((3, 3, 0)));
    assert_eq!(world.apply(E1, "one", &more).await, DONE);
}

#[tokio::test]
async fn a_shell_takes_no_grants() {
    let world = World::open().await;
    world.prepare("two", E1, true).await.expect("the epoch is sealed");
    assert_eq!(world.apply(E1, "two", &[grant(0, 9)]).await, Step::Refused);
    assert_eq!(world.freeze(E1, "two").await, Step::Refused);
}

#[tokio::test]
async fn a_new_epoch_starts_a_session_from_nothing() {
    let world = World::open().await;
    assert!(is_held(&world.hold(&booking(1, 100)).await));
    assert_eq!(world.apply(E1, "one", &[grant(1, 4)]).await, DONE);
    let term = world.prepare("two", E1, true).await.expect("the epoch is sealed");
    assert_eq!(world.open_as(E2, &term, "two").await, DONE);
    assert_eq!(world.inventory.snapshot(P, &[session()]).await.expect("answers"), []);
    assert_eq!(world.freeze_count().await, 0);
    let world = World::open().await;
    assert!(is_held(&world.hold(&booking(1, 100)).await));
    let term = world.prepare("two", E1, true).await.expect("the epoch is sealed");
    assert_eq!(world.open_as(E2, &term, "two").await, DONE);
    assert_eq!(world.apply(E2, "two", &[grant(0, 2)]).await, DONE);
    assert_eq!(world.counters().await, Some((2, 2, 0)));
}

impl World {
    async fn freeze_count(&self) -> usize {
        match self.freeze(E2, "two").await {
            Step::Done(counts) => counts.len(),
            Step::Refused => panic!("refused"),
        }
    }
}

#[tokio::test]
async fn apply_fills_in_who_holds_a_live_booking() {
    let world = World::open().await;
    let (durable, held) = (booking(1, 100), booking(2, 101));
    assert!(is_held(&world.hold(&held).await));
    let stale = booking(3, 101);
    assert_eq!(world.apply_with(E1, "one", &[], &[durable.clone(), stale]).await, DONE);
    assert_eq!(world.hold(&booking(4, 100)).await, Hold::AlreadyBooked { id: id(1) });
    let replayed = Hold::Replayed { id: id(1), epoch: E1, live: true };
    assert_eq!(world.hold(&again(&durable, 5)).await, replayed);
    // A live entry is not replaced.
    assert_eq!(world.hold(&booking(6, 101)).await, Hold::AlreadyBooked { id: id(2) });
}

#[tokio::test]
async fn apply_replaces_a_dead_entry_but_never_revives_it() {
    let world = World::open().await;
    let dead = booking(1, 100);
    assert!(is_held(&world.hold(&dead).await));
    world.settle(&dead, false).await;
    // The caller read it as live before it was cancelled.
    assert_eq!(world.apply_with(E1, "one", &[], std::slice::from_ref(&dead)).await, DONE);
    let replayed = Hold::Replayed { id: id(1), epoch: E1, live: false };
    assert_eq!(world.hold(&again(&dead, 2)).await, replayed);
    assert_eq!(world.apply_with(E1, "one", &[], &[booking(3, 100)]).await, DONE);
    assert_eq!(world.hold(&booking(4, 100)).await, Hold::AlreadyBooked { id: id(3) });
}

#[tokio::test]
async fn more_live_bookings_than_one_call_takes_are_all_known_before_a_place_is_sold() {
    let world = World::open().await;
    let live: Vec<_> = (1..=1_201).map(|n| booking(n, n)).collect();
    assert_eq!(world.apply_with(E1, "one", &[grant(0, 4)], &live).await, DONE);
    for n in [1, 500, 501, 1_001, 1_201] {
        assert_eq!(world.hold(&booking(5_000, n)).await, Hold::AlreadyBooked { id: id(n) });
    }
    assert_eq!(world.counters().await, Some((4, 4, 0)));
    assert_eq!(world.apply_with(E1, "two", &[grant(0, 5)], &live).await, Step::Refused);
}

#[tokio::test]
async fn freeze_tells_what_was_sold_and_may_be_asked_for_more_sessions() {
    let world = World::open().await;
    assert!(is_held(&world.hold(&booking(1, 100)).await));
    let other = SessionId::from(78);
    let grants = [Grant { slot: SlotId::of(other, 255), granted: 8, release: release() }];
    let applied = world.inventory.apply(P, E1, &nonce("one"), other, &grants, &[]).await;
    assert_eq!(applied.expect("answers"), DONE);

    let first = SlotCount { slot: slot(0), left: 2, granted: 3, sold: 1 };
    let second = SlotCount { slot: SlotId::of(other, 255), left: 8, granted: 8, sold: 0 };
    let freeze = async |sessions: Vec<SessionId>| {
        world.inventory.freeze(P, E1, &nonce("one"), &sessions).await.expect("answers")
    };
    assert_eq!(freeze(vec![]).await, Step::Done(vec![]));
    assert!(!head(&world).await.1);
    assert_eq!(freeze(vec![session()]).await, Step::Done(vec![first]));
    assert_eq!(freeze(vec![other, session()]).await, Step::Done(vec![second, first]));
    assert_eq!(freeze(vec![SessionId::from(79)]).await, Step::Done(vec![]));

    let many: Vec<_> = (1..=200).map(SessionId::from).collect();
    assert_eq!(freeze(many.clone()).await, Step::Done(vec![first, second]));
    let all = world.inventory.snapshot(P, &many).await.expect("answers");
    assert_eq!(all, [first, second]);
}

#[tokio::test]
async fn freeze_takes_only_its_epoch_and_nonce() {
    let world = World::open().await;
    assert_eq!(world.freeze(E2, "one").await, Step::Refused);
    assert_eq!(world.freeze(E1, "two").await, Step::Refused);
    assert!(is_held(&world.hold(&booking(1, 100)).await));
}

#[tokio::test]
async fn a_session_of_twenty_slots_is_one_listpack() {
    let mut world = World::open().await;
    let grants: Vec<_> = (0..20).map(|ordinal| grant(ordinal, u32::MAX)).collect();
    assert_eq!(world.apply(E1, "one", &grants).await, DONE);
    assert!(is_held(&world.hold(&booking(1, 100)).await));
    let mut command = redis::cmd("OBJECT");
    command.arg("ENCODING").arg(keys::session(P, session()));
    let encoding: String = command.query_async(&mut world.raw).await.expect("there is one");
    assert_eq!(encoding, "listpack");
    assert_eq!(world.counters().await, Some((u32::MAX - 1, u32::MAX, 1)));
}
