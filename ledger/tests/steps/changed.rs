//! The count of changed bookings, and what it says of rows.

use anyhow::Result;
use booking::AccountId;
use ledger::booking_row::Cancelled;

use crate::races::{cancelling, holding};
use crate::world::{World, booking, bookings};

/// The race: a row is read, a cancel commits, the count is read. Then the count would say that the row was
/// read after the cancel, and it would pass for the booking's last state for ever.
#[tokio::test]
async fn a_row_is_never_older_than_the_count_it_was_read_with() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let live = booking(1, slot, 1);
    world.persist_one(&live).await?;
    let before = world.ledger.find_changed(&[(live.id, 0)]).await?.count;
    let cancel = format!("SELECT cancel_booking({}, 1); LOCK TABLE changed_bookings", live.id);
    let cancel = holding(&world, &cancel).await?;
    let (ledger, id) = (world.ledger.clone(), live.id);
    let reading = tokio::spawn(async move { ledger.find_changed(&[(id, 1)]).await });
    world.until_blocked(1).await?;
    cancel.commit().await?;
    let read = reading.await??;
    assert!(read.count == before || !read.rows.is_empty(), "{read:?}");
    assert_eq!(world.ledger.change_count().await?.0, before.0 + 1);
    Ok(())
}

#[tokio::test]
async fn every_transaction_that_changes_bookings_is_counted_once() -> Result<()> {
    let (world, slot) = World::on_offer(50).await?;
    let batch = bookings(20, slot);
    world.persist(&batch).await?;
    assert_eq!(world.ledger.change_count().await?.0, 0, "a new row is no change");
    let cancels: Vec<_> = batch[..10].iter().map(|one| cancelling(&world, one.id)).collect();
    for cancel in cancels {
        assert!(matches!(cancel.await??, Cancelled::Done(_)));
    }
    assert_eq!(world.ledger.change_count().await?.0, 10);
    let again = world.ledger.cancel(batch[0].id, AccountId::from(1)).await?;
    assert!(matches!(again, Cancelled::NotLive(_)));
    let many = "UPDATE booking
                SET state = 'cancelled', held_hospital_id = NULL, held_on = NULL, version = 2
                WHERE state = 'booked'";
    holding(&world, many).await?.rollback().await?;
    assert_eq!(world.ledger.change_count().await?.0, 10);
    world.run(many).await?;
    assert_eq!(world.ledger.change_count().await?.0, 11, "ten at once are one change");
    world.run("DELETE FROM booking").await?;
    assert_eq!(world.ledger.change_count().await?.0, 12);
    Ok(())
}

/// The counters are the last locks of a transaction: who holds one waits for nobody, so no two can wait
/// for each other.
#[tokio::test]
async fn a_cancel_takes_its_counter_not_before_its_commit() -> Result<()> {
    let (world, slot) = World::on_offer(5).await?;
    let live = booking(1, slot, 1);
    world.persist_one(&live).await?;
    let cancel = holding(&world, &format!("SELECT cancel_booking({}, 1)", live.id)).await?;
    let free = "SELECT count(*) FROM (SELECT FROM changed_bookings FOR UPDATE NOWAIT) free";
    assert_eq!(world.number(free).await?, 16);
    cancel.commit().await?;
    assert_eq!(world.ledger.change_count().await?.0, 1);
    Ok(())
}
