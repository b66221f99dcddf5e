//! Parked bookings, and an admin who replays them.

use anyhow::{Context as _, Result, bail, ensure};
use booking::{Booking, BookingId, Digest};
use e2e::System;
use hyper::Method;
use ledger::parked::Parked;
use rush::answer::{Answer, Status};
use serde_json::Value;

/// Parks a booking that was promised, as the worker does with one it can't persist.
pub(super) async fn park(system: &mut System, number: usize) -> Result<BookingId> {
    // It must not get its row before the replay.
    system.workers[0].kill();
    let slot = system.plan.offers[0].slot;
    let person = system.person(number, 0)?;
    let answer = person.book(slot, "mine").await;
    let Answer::Booking { id, .. } = answer else { bail!("no place: {answer:?}") };
    let partition = system.partition();
    let epochs = system.ledger().epochs().await?;
    let mine = epochs.iter().filter(|row| row.partition == partition);
    let member = person.member();
    let booking = Booking {
        id,
        epoch: mine.map(|row| row.epoch).max().context("an epoch")?,
        slot,
        patient: member.patient,
        account: member.account,
        key: Digest::of_key("mine"),
        request: Digest::of_request(slot, member.patient),
        accepted_at: id.minted_at(),
    };
    system.ledger().park(partition, "unexpected", "", &[Parked::Booking(booking)]).await?;
    Ok(id)
}

/// Lets an admin replay it; the answer may be lost.
pub(super) async fn replay(system: &System, id: BookingId) -> Result<Value> {
    let parked = system.ledger().parked(None, 100).await?;
    let row = parked.iter().find(|row| row.booking == Some(id)).context("the parked row")?;
    let path = format!("/v1/admin/parked/{}/replay", row.id);
    system.administer(Method::POST, &path, &Value::Null, 200).await
}

/// Each has its row, and nothing is parked any more.
pub(super) async fn judge(system: &System, ids: &[BookingId]) -> Result<String> {
    for (number, id) in ids.iter().enumerate() {
        let status = system.person(number, 0)?.follow(*id).await?;
        ensure!(status == Status::Booked, "patient {number} is {}", status.as_str());
    }
    let parked = system.ledger().parked(None, 100).await?;
    ensure!(parked.is_empty(), "still parked: {parked:?}");
    Ok("2 of 2 have one place each, nothing is parked; all others are sold".to_owned())
}
