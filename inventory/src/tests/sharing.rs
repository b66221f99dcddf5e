//! Holds that share a call: each is judged as if it had come alone.

use std::time::Duration;

use booking::{Booking, Digest, Epoch, ReleaseId, SessionId, SlotId};
use testkit::{Proxy, eventually};
use tokio::task::JoinHandle;

use super::world::{
    E1, E2, GATEWAY, NOW, P, WINDOW, World, again, booking, grant, id, is_held, nonce, release,
    settings, slot, wait_until,
};
use crate::hold::{self, Wish};
use crate::lane::WISHES_PER_CALL_MAX;
use crate::{Error, Grant, Hold, Inventory, Settings, Step, Window};

/// Has bookings judged by one call.
async fn together(world: &mut World, bookings: &[Booking]) -> Vec<Hold> {
    let wish = |booking: &Booking| Wish { booking: booking.clone(), now: NOW };
    let wishes: Vec<_> = bookings.iter().map(wish).collect();
    let reply = hold::call(P, wishes.iter()).run(&mut world.raw).await.expect("answers");
    let holds = hold::parse(reply, wishes.len()).expect("is readable");
    holds.into_iter().map(|hold| hold.expect("is readable")).collect()
}

fn at(ordinal: u8, mut booking: Booking) -> Booking {
    booking.slot = slot(ordinal);
    booking
}

/// Sends holds at once, while Redis stands still so that they gather.
fn rush(gateway: &Inventory, patients: i64) -> Vec<JoinHandle<Result<Hold, Error>>> {
    let hold = |n| {
        let gateway = gateway.clone();
        tokio::spawn(async move { gateway.hold(P, &booking(n, n), NOW).await })
    };
    (1..=patients).map(hold).collect()
}

/// Waits until so many calls are under way, and so many wishes wait for the next.
async fn until_standing(gateway: &Inventory, calls: usize, waiting: usize) {
    let is_so = || async { (gateway.lanes.standing(P) == (calls, waiting)).then_some(()) };
    let standing = eventually("calls and wishes stand so", Duration::from_secs(5), is_so).await;
    standing.expect("in time");
}

async fn calls_of_scripts(world: &mut World) -> u64 {
    let mut command = redis::cmd("INFO");
    command.arg("commandstats");
    let info: String = command.query_async(&mut world.raw).await.expect("Redis tells");
    let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn many_at_once_share_calls_and_none_is_sold_twice() {
    let mut world = World::empty().await;
    world.open_first(300).await;
    let before = calls_of_scripts(&mut world).await;
    world.redis.pause();
    let tasks = rush(&world.gateway, 500);
    // On one thread all have come before the first call takes its wishes.
    until_standing(&world.gateway, 1, 500 - WISHES_PER_CALL_MAX).await;
    world.redis.resume();
    let (mut tickets, mut sold_out) = (Vec::new(), 0);
    for task in tasks {
        match task.await.expect("does not panic").expect("answers") {
            Hold::Held { left, ticket, settled: 0 } => {
                assert_eq!(u64::from(left) + ticket, 300);
                tickets.push(ticket);
            }
            Hold::SoldOut => sold_out += 1,
            other => panic!("{other:?}"),
        }
    }
    tickets.sort_unstable();
    assert!(tickets.into_iter().eq(1..=300), "each ticket once");
    assert_eq!(sold_out, 200);
    let calls = calls_of_scripts(&mut world).await - before;
    let fewest = 500_u64.div_ceil(WISHES_PER_CALL_MAX as u64);
    assert!((fewest..=fewest + 4).contains(&calls), "{calls} calls");
    assert_eq!(world.counters().await, Some((0, 300, 300)));
    let inspection = world.inventory.inspect(P).await.expect("answers");
    assert_eq!(inspection.outbox_len, 300);
    assert_eq!(inspection.ledger.map(|ledger| ledger.held), Some(300));
}

#[tokio::test]
async fn holds_that_come_one_after_the_other_are_sent_alone() {
    let mut world = World::open().await;
    let before = calls_of_scripts(&mut world).await;
    for n in 1..=3 {
        assert!(is_held(&world.hold(&booking(n, n)).await));
    }
    assert_eq!(calls_of_scripts(&mut world).await - before, 3);
}

/// `…:7` and `71` are not `…:77` and `1`, though one after the other they read alike.
#[tokio::test]
async fn who_and_what_is_told_apart_across_the_sessions_of_a_call() {
    let mut world = World::open().await;
    let places = [(7, 71), (77, 1)];
    let slot = |(session, ordinal)| SlotId::of(SessionId::from(session), ordinal);
    for place in places {
        let grants = [Grant { slot: slot(place), granted: 1, release: release() }];
        let session = slot(place).session();
        let applied = world.inventory.apply(P, E1, &nonce("one"), session, &grants, &[]).await;
        assert_eq!(applied.expect("answers"), Step::Done(()));
    }
    let [first, second] = places.map(|place| {
        let patient = i64::from(place.1);
        Booking { slot: slot(place), ..booking(patient, patient) }
    });
    let holds = together(&mut world, &[first, second]).await;
    let held = |ticket| Hold::Held { left: 0, ticket, settled: 0 };
    assert_eq!(holds, [held(1), held(2)]);
}

#[tokio::test]
async fn each_booking_of_a_call_gets_its_own_answer_in_order() {
    let mut world = World::open().await;
    let soon = NOW.plus_ms(500);
    for (number, window) in [
        (2, Window { opens_at: soon, ..WINDOW }),
        (3, Window { paused: true, ..WINDOW }),
        (4, Window { closes_at: NOW, ..WINDOW }),
    ] {
        let release = ReleaseId::from(number);
        world.inventory.set_window(P, release, window).await.expect("answers");
        let ordinal = u8::try_from(number).expect("is small");
        let grants = [Grant { release, ..grant(ordinal, 5) }];
        assert_eq!(world.apply(E1, "one", &grants).await, Step::Done(()));
    }
    assert_eq!(world.apply(E1, "one", &[grant(1, 1)]).await, Step::Done(()));
    let other = SessionId::from(78);
    let grants = [Grant { slot: SlotId::of(other, 0), granted: 1, release: release() }];
    let applied = world.inventory.apply(P, E1, &nonce("one"), other, &grants, &[]).await;
    assert_eq!(applied.expect("answers"), Step::Done(()));

    let first = booking(1, 100);
    let request = Digest::of_request(slot(1), first.patient);
    let reused = Booking { request, ..at(1, again(&first, 3)) };
    let elsewhere = Booking { slot: SlotId::of(other, 0), ..booking(14, 100) };
    let nowhere = Booking { slot: SlotId::of(SessionId::from(79), 0), ..booking(15, 100) };
    let behind = Booking { epoch: Epoch::NONE, ..booking(11, 110) };
    let ahead = Booking { epoch: E2, ..booking(12, 111) };
    let bookings = [
        first.clone(),
        again(&first, 2),
        reused,
        booking(4, 100),
        at(1, booking(5, 105)),
        at(1, booking(6, 106)),
        at(2, booking(7, 107)),
        at(3, booking(8, 108)),
        at(4, booking(9, 109)),
        at(9, booking(10, 109)),
        behind,
        ahead,
        booking(13, 112),
        elsewhere,
        nowhere,
    ];
    let held = |left, ticket| Hold::Held { left, ticket, settled: 0 };
    let expected = [
        held(2, 1),
        Hold::Replayed { id: id(1), epoch: E1, live: true },
        Hold::KeyReused,
        Hold::AlreadyBooked { id: id(1) },
        held(0, 2),
        Hold::SoldOut,
        Hold::NotOpen { opens_at: soon },
        Hold::Paused,
        Hold::Closed,
        Hold::NotPreheated,
        Hold::OtherEpoch { current: E1 },
        Hold::OtherEpoch { current: E1 },
        held(1, 3),
        // The patient of the first, in another session.
        held(0, 4),
        Hold::NotPreheated,
    ];
    assert_eq!(together(&mut world, &bookings).await, expected);
    assert_eq!(world.counters().await, Some((1, 3, 2)));
    let counts = world.inventory.snapshot(P, &[other]).await.expect("answers");
    assert_eq!(counts.iter().map(|c| (c.left, c.sold)).collect::<Vec<_>>(), [(0, 1)]);
    for won in [0, 4, 12, 13] {
        let found = world.inventory.find(bookings[won].id).await.expect("answers");
        assert_eq!(found.as_ref(), Some(&bookings[won]));
    }
    assert_eq!(world.inventory.inspect(P).await.expect("answers").outbox_len, 4);
    // Sent again, all are known and none takes a place.
    let again = together(&mut world, &bookings).await;
    assert_eq!(again[0], Hold::Replayed { id: id(1), epoch: E1, live: true });
    assert!(!again.iter().any(is_held), "{again:?}");
    assert_eq!(world.counters().await, Some((1, 3, 2)));
}

#[tokio::test]
async fn without_an_open_ledger_a_whole_call_is_shut() {
    let mut world = World::empty().await;
    let bookings = [booking(1, 1), booking(2, 2)];
    assert_eq!(together(&mut world, &bookings).await, [Hold::Shut, Hold::Shut]);
    world.open_first(3).await;
    assert!(matches!(world.freeze(E1, "one").await, Step::Done(_)));
    assert_eq!(together(&mut world, &bookings).await, [Hold::Shut, Hold::Shut]);
}

#[tokio::test]
async fn a_fence_is_told_to_all_winners_of_a_call_and_to_no_loser() {
    for field in ["run_id", "replid"] {
        let mut world = World::open().await;
        assert_eq!(world.apply(E1, "one", &[grant(1, 0)]).await, Step::Done(()));
        assert!(is_held(&world.hold(&booking(1, 100)).await));
        world.tamper(field, "0123456789abcdef").await;
        let bookings = [
            booking(2, 101),
            booking(3, 100),
            at(1, booking(4, 102)),
            booking(5, 103),
            at(9, booking(6, 104)),
            booking(1, 100),
            // Known to nobody: the first of the call took nothing.
            booking(7, 101),
        ];
        let expected = [
            Hold::Fenced,
            Hold::AlreadyBooked { id: id(1) },
            Hold::SoldOut,
            Hold::Fenced,
            Hold::NotPreheated,
            Hold::Replayed { id: id(1), epoch: E1, live: true },
            Hold::Fenced,
        ];
        assert_eq!(together(&mut world, &bookings).await, expected, "{field}");
        assert_eq!(world.counters().await, Some((2, 3, 1)), "{field}");
        assert_eq!(world.inventory.inspect(P).await.expect("answers").outbox_len, 1, "{field}");
    }
}

#[tokio::test]
async fn a_call_that_fails_before_it_wrote_anything_wrote_nothing_for_anybody() {
    let mut world = World::open().await;
    world.run(&format!("SET {} x", crate::keys::out(P))).await;
    let wishes = [booking(1, 1), booking(2, 2)].map(|booking| Wish { booking, now: NOW });
    let refused = hold::call(P, wishes.iter()).run(&mut world.raw).await;
    refused.expect_err("the outbox is no hash");
    assert_eq!(world.counters().await, Some((3, 3, 0)));
    world.run(&format!("DEL {}", crate::keys::out(P))).await;
    assert!(is_held(&world.hold(&booking(3, 1)).await), "the patient is not known");
}

/// A gateway whose connection leads through a proxy.
async fn through_proxy(world: &World, response_timeout_ms: u64) -> (Inventory, Proxy) {
    let proxy = Proxy::start(&world.redis.url()).await.expect("the proxy starts");
    let direct = settings(&world.redis, GATEWAY);
    let port = |port: u16| format!(":{port}");
    let url = secrecy::ExposeSecret::expose_secret(&direct.url)
        .replace(&port(world.redis.port()), &port(proxy.port()));
    let settings = Settings { url: url.into(), connections: 1, response_timeout_ms };
    let gateway = Inventory::start(&settings).expect("the address is well-formed");
    wait_until(&gateway, true).await;
    (gateway, proxy)
}

#[tokio::test]
async fn a_cut_during_a_call_leaves_everybody_in_it_not_knowing() {
    let world = World::open().await;
    let (gateway, proxy) = through_proxy(&world, 10_000).await;
    // The script's requests pass, their answers do not.
    proxy.mute();
    let tasks = rush(&gateway, 20);
    testkit::eventually("the places are sold", Duration::from_secs(10), || async {
        (world.counters().await == Some((0, 3, 3))).then_some(())
    })
    .await
    .expect("the calls ran");
    proxy.cut();
    for task in tasks {
        let hold = task.await.expect("does not panic");
        assert!(matches!(hold, Err(Error::Unknown | Error::Unavailable)), "{hold:?}");
    }
    proxy.heal();
    wait_until(&gateway, true).await;
    // Who was in a call that ran finds what became of it by the key.
    let first = gateway.hold(P, &again(&booking(1, 1), 50), NOW).await.expect("answers");
    assert_eq!(first, Hold::Replayed { id: id(1), epoch: E1, live: true });
}

#[tokio::test]
async fn a_hold_that_waited_too_long_was_not_sent() {
    let world = World::empty().await;
    let (gateway, proxy) = through_proxy(&world, 300).await;
    proxy.stall();
    let tasks = rush(&gateway, 300);
    let (mut unknown, mut unsent) = (0, 0);
    for task in tasks {
        match task.await.expect("does not panic") {
            Err(Error::Unknown) => unknown += 1,
            Err(Error::Unavailable) => unsent += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(unknown > 0 && unknown <= WISHES_PER_CALL_MAX, "{unknown} of unknown outcome");
    assert_eq!(unknown + unsent, 300);
}
