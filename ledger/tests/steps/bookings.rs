//! C1, S1 and reading: cancelled, lapsed, listed and followed.

use anyhow::{Context as _, Result};
use booking::{AccountId, BookingId, Epoch, Reason, SlotId, State, UnixMs};
use ledger::booking_row::{BookingRow, Cancelled, Change, Lapsed};
use ledger::imprint::Imprint;

use crate::world::{P0, P1, World, booking, bookings, lost, places};

async fn cancel(world: &World, id: BookingId) -> Result<Cancelled> {
    Ok(world.ledger.cancel(id, AccountId::from(1)).await?)
}

async fn is_done(world: &World, id: BookingId) -> Result<bool> {
    Ok(matches!(cancel(world, id).await?, Cancelled::Done(_)))
}

fn ids(rows: &[BookingRow]) -> Vec<i64> {
    rows.iter().map(|row| row.booking.id.get() >> 22).collect()
}

#[tokio::test]
async fn cancelling_frees_the_place_once_and_keeps_the_number() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let live = booking(1, slot, 1);
    world.persist_one(&live).await?;
    let before = world.ledger.find_bookings(&[live.id]).await?.remove(0);
    let Cancelled::Done(row) = cancel(&world, live.id).await? else { panic!("not done") };
    assert_eq!((row.state, row.number, row.version), (State::Cancelled, Some(1), 2));
    assert!(row.changed_at >= before.changed_at);
    assert_eq!(cancel(&world, live.id).await?, Cancelled::NotLive(row));
    assert_eq!(world.places(slot).await?, places(0, 4, 1));
    world.assert_sound().await
}

#[tokio::test]
async fn of_known_bookings_those_that_changed_are_sent() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let [cancelled, kept, unknown] = [1, 2, 3].map(|n| booking(n, slot, n));
    world.persist(&[kept.clone(), cancelled.clone(), unknown.clone()]).await?;
    assert!(is_done(&world, cancelled.id).await?);
    let known = [(kept.id, 1), (cancelled.id, 1), (unknown.id, 0), (BookingId::from(77), 0)];
    let changed = world.ledger.find_changed(&known).await?.rows;
    let mut found: Vec<_> = changed.iter().map(|row| (row.booking.id, row.state)).collect();
    found.sort_unstable_by_key(|(id, _)| *id);
    assert_eq!(found, [(cancelled.id, State::Cancelled), (unknown.id, State::Booked)]);
    Ok(())
}

#[tokio::test]
async fn another_accounts_booking_is_not_found() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let live = booking(1, slot, 1);
    world.persist_one(&live).await?;
    let stranger = AccountId::from(2);
    assert_eq!(world.ledger.cancel(live.id, stranger).await?, Cancelled::NotFound);
    assert_eq!(cancel(&world, BookingId::from(77)).await?, Cancelled::NotFound);
    assert_eq!(world.places(slot).await?, places(1, 4, 1));
    Ok(())
}

#[tokio::test]
async fn once_the_slot_has_begun_it_is_too_late() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let live = booking(1, slot, 1);
    world.persist_one(&live).await?;
    world.run("UPDATE slot SET starts_at = now() - interval '1 second'").await?;
    let Cancelled::TooLate(row) = cancel(&world, live.id).await? else { panic!("not too late") };
    assert_eq!(row.state, State::Booked);
    assert_eq!(world.places(slot).await?, places(1, 4, 1));
    world.assert_sound().await
}

#[tokio::test]
async fn a_rejected_booking_is_not_cancelled() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.persist(&[booking(1, slot, 1), booking(2, slot, 1)]).await?;
    let rejected = booking(2, slot, 1).id;
    assert!(matches!(cancel(&world, rejected).await?, Cancelled::NotLive(_)));
    assert_eq!(world.places(slot).await?, places(1, 3, 1));
    world.assert_sound().await
}

#[tokio::test]
async fn a_pending_booking_lapses_when_all_older_epochs_are_closed() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let pending = booking(1, slot, 1);
    world.open(P0, 1, "second").await?;
    assert_eq!(world.ledger.lapse(&pending).await?, Lapsed::NotYet);
    world.ledger.record_drained(P0, Epoch(1)).await?;
    assert_eq!(world.ledger.lapse(&pending).await?, Lapsed::NotYet);
    world.ledger.close_epoch(P0, Epoch(1)).await?;
    let Lapsed::Row(row) = world.ledger.lapse(&pending).await? else { panic!("not lapsed") };
    assert_eq!((row.state, row.reason), (State::Rejected, Some(Reason::Lapsed)));
    assert_eq!(row.booking, pending);
    assert_eq!(world.ledger.lapse(&pending).await?, Lapsed::Row(row));
    // Should it turn up after all, its answer stands.
    assert_eq!(world.persist_one(&pending).await?, lost(Reason::Lapsed));
    world.assert_sound().await
}

#[tokio::test]
async fn lapsing_what_has_a_row_answers_the_row() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let live = booking(1, slot, 1);
    world.persist_one(&live).await?;
    let Lapsed::Row(row) = world.ledger.lapse(&live).await? else { panic!("no row") };
    assert_eq!(row.state, State::Booked);
    world.open(P0, 1, "second").await?;
    assert_eq!(world.ledger.lapse(&live).await?, Lapsed::Row(row));
    world.assert_sound().await
}

#[tokio::test]
async fn an_unclosed_epoch_of_another_partition_keeps_nothing_pending() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.open_first(P1).await?;
    world.open(P1, 1, "second").await?;
    assert!(matches!(world.ledger.lapse(&booking(1, slot, 1)).await?, Lapsed::Row(_)));
    Ok(())
}

#[tokio::test]
async fn an_account_pages_through_its_own_bookings_latest_first() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let mut batch = bookings(4, slot);
    batch[1].account = AccountId::from(2);
    world.persist(&batch).await?;
    let me = AccountId::from(1);
    let page = world.ledger.bookings_of_account(me, None, 2).await?;
    assert_eq!(ids(&page), [4, 3]);
    let rest = world.ledger.bookings_of_account(me, Some(page[1].booking.id), 2).await?;
    assert_eq!(ids(&rest), [1]);
    Ok(())
}

#[tokio::test]
async fn a_follower_sees_rows_in_the_order_of_their_last_change() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.persist(&bookings(3, slot)).await?;
    assert!(is_done(&world, booking(1, slot, 1).id).await?);
    let rows = world.ledger.changed_since(P0, UnixMs(0), 10).await?;
    assert_eq!(ids(&rows), [2, 3, 1]);
    let latest = world.ledger.changed_since(P0, rows[2].changed_at, 10).await?;
    assert_eq!(ids(&latest).last(), Some(&1));
    assert_eq!(world.ledger.changed_since(P0, UnixMs(0), 1).await?.len(), 1);
    assert_eq!(world.ledger.changed_since(P1, UnixMs(0), 10).await?, []);
    let ahead = rows[2].changed_at.plus_ms(1);
    assert_eq!(world.ledger.changed_since(P0, ahead, 10).await?, []);
    Ok(())
}

#[tokio::test]
async fn a_follower_of_what_was_given_back_sees_that_alone() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    world.persist(&bookings(3, slot)).await?;
    assert_eq!(world.ledger.given_back_since(P0, UnixMs(0), 10).await?, []);
    for number in [2, 1] {
        assert!(is_done(&world, booking(number, slot, number).id).await?);
    }
    let given_back = world.ledger.given_back_since(P0, UnixMs(0), 10).await?;
    let order: Vec<i64> = given_back.iter().map(|(booking, _)| booking.id.get() >> 22).collect();
    assert_eq!(order, [2, 1]);
    let latest = world.ledger.given_back_since(P0, given_back[1].1, 10).await?;
    assert_eq!(latest.last(), given_back.last());
    assert_eq!(world.ledger.given_back_since(P0, UnixMs(0), 1).await?.len(), 1);
    assert_eq!(world.ledger.given_back_since(P1, UnixMs(0), 10).await?, []);
    Ok(())
}

#[tokio::test]
async fn what_patients_hold_is_what_the_limits_count() -> Result<()> {
    let world = World::new().await?;
    let mut slots = Vec::new();
    for days in [-9, -6, 7] {
        slots.push(SlotId::of(world.session(P0, days, &[5]).await?, 0));
    }
    world.open_first(P0).await?;
    let batch = [
        booking(1, slots[0], 1),
        booking(2, slots[1], 2),
        booking(3, slots[2], 3),
        booking(4, slots[2], 3),
    ];
    world.persist(&batch).await?;
    let held = world.ledger.changes_since(UnixMs(0), &[], 10).await?;
    let seen = |changes: &[Change]| -> Vec<_> {
        let seen = |change: &Change| {
            (change.row.booking.id.get() >> 22, change.row.state.is_live(), change.row.version)
        };
        changes.iter().map(seen).collect()
    };
    assert_eq!(seen(&held), [(2, true, 1), (3, true, 1)]);
    let today = world.number("SELECT (current_date - date '1970-01-01')::bigint").await?;
    assert_eq!(i64::from(held[1].day), today + 7);
    assert!(is_done(&world, booking(3, slots[2], 3).id).await?);
    assert_eq!(world.ledger.changes_since(UnixMs(0), &[], 10).await?.len(), 1);
    // A cancel is a new version, also of a row that is known.
    let known: Vec<_> =
        held.iter().map(|change| (change.row.booking.id, change.row.version)).collect();
    let since = held[0].row.changed_at;
    let changed = world.ledger.changes_since(since, &known, 10).await?;
    assert_eq!(seen(&changed), [(4, false, 1), (3, false, 2)]);
    let all = known
        .into_iter()
        .chain(changed.iter().map(|change| (change.row.booking.id, change.row.version)));
    let all: Vec<_> = all.collect();
    assert_eq!(world.ledger.changes_since(since, &all, 10).await?, []);
    Ok(())
}

#[tokio::test]
async fn an_imprint_is_of_the_rows_that_changed_in_a_time() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let ids = [booking(1, slot, 1).id, booking(2, slot, 2).id];
    let of = |rows: &[(BookingId, i64)]| {
        rows.iter().fold(Imprint::default(), |all, (id, version)| all.and(*id, *version))
    };
    let (begin, end) = (UnixMs(1), UnixMs(1 << 45));
    assert_eq!(world.ledger.imprint(begin, end).await?, Imprint::default());
    world.persist(&[booking(1, slot, 1), booking(2, slot, 2)]).await?;
    let both = world.ledger.imprint(begin, end).await?;
    assert_eq!(both, of(&[(ids[0], 1), (ids[1], 1)]));
    assert_eq!(both, of(&[(ids[1], 1), (ids[0], 1)]), "in no order");
    assert!(is_done(&world, ids[1]).await?);
    assert_eq!(world.ledger.imprint(begin, end).await?, of(&[(ids[0], 1), (ids[1], 2)]));
    // The first instant is of the time, the last is not.
    let rows = world.ledger.find_bookings(&ids).await?;
    let cancelled_at = rows.iter().map(|row| row.changed_at).max().context("two rows")?;
    let before = rows.iter().filter(|row| row.changed_at < cancelled_at);
    let before: Vec<_> = before.map(|row| (row.booking.id, row.version)).collect();
    assert_eq!(world.ledger.imprint(begin, cancelled_at).await?, of(&before));
    assert_ne!(world.ledger.imprint(cancelled_at, end).await?, Imprint::default());
    Ok(())
}

#[tokio::test]
async fn the_live_bookings_of_sessions_are_found() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let other = SlotId::of(world.session(P0, 8, &[5]).await?, 0);
    world.ledger.top_up(P0, Epoch(1)).await?;
    let batch =
        [booking(1, slot, 1), booking(2, slot, 2), booking(3, slot, 2), booking(4, other, 4)];
    world.persist(&batch).await?;
    assert!(is_done(&world, booking(1, slot, 1).id).await?);
    let live = world.ledger.live_of_sessions(&[slot.session()]).await?;
    assert_eq!(live, [booking(2, slot, 2)]);
    Ok(())
}
