//! Programs that end in the middle of a rush, on purpose or not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use booking::{BookingId, SlotId};
use e2e::{Manner, Options, SOON, System, finish_all};
use rush::answer::{Answer, Status};
use testkit::eventually;

/// L1: how long after the last fault everything promised is final.
const FINAL_WITHIN: Duration = Duration::from_secs(30);
/// How long a graceful stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_gateway_killed_in_the_middle_comes_back_and_answers_every_patient() -> Result<()> {
    let mut system = System::start(Options::default()).await?;
    let slot = system.plan.offers[0].slot;
    let winner = system.person(119, 0)?;
    let id = winner.get(slot, "mine").await?;
    let rush = system.rush_halfway(119, Manner { repeats: true, ..Manner::default() }).await?;

    system.gateways[0].kill();
    system.gateways[0].start_again()?;

    assert_all_final(&finish_all(rush).await?);
    let again = winner.book(slot, "mine").await;
    assert_eq!(again, Answer::Booking { id, status: Status::Booked, reason: None });
    system.sell_out().await?;
    assert_eq!(system.counts().await?.booked, 40);
    system.finish().await
}

#[tokio::test]
async fn a_worker_killed_twice_in_the_middle_loses_nothing() -> Result<()> {
    let mut system = System::start(Options::default()).await?;
    let first = system.rush(0..20, Manner::default())?;
    first.until_booked(5).await?;
    system.workers[0].kill();
    let others = system.rush(20..120, Manner::default())?;
    eventually("bookings that pile up", SOON, || async {
        let depths = broker::depths(&system.queues()).await.ok()?;
        depths.bookings.iter().any(|depth| *depth > 0).then_some(())
    })
    .await?;
    system.workers[0].start_again()?;
    // Again, now that it works through the pile.
    system.workers[0].ready().await?;
    system.workers[0].kill();
    let killed_at = Instant::now();
    system.workers[0].start_again()?;
    assert_all_final(&finish_all([first, others]).await?);
    assert!(killed_at.elapsed() < FINAL_WITHIN, "final after {:?}", killed_at.elapsed());
    system.sell_out().await?;
    assert_eq!(system.counts().await?.booked, 40);
    system.finish().await
}

#[tokio::test]
async fn a_graceful_stop_of_both_programs_under_load_loses_nothing() -> Result<()> {
    let mut system = System::start(Options::default()).await?;
    let slot = system.plan.offers[0].slot;
    let rush = system.rush_halfway(110, Manner::default()).await?;
    let last_minute = last_minute_bookings(&system, slot).await?;
    for program in system.gateways.iter().chain(&system.workers) {
        program.terminate();
    }
    let told_at = Instant::now();
    for program in system.gateways.iter_mut().chain(&mut system.workers) {
        let status = program.ended(STOP_WITHIN).await?;
        assert!(status.success(), "{status}");
    }
    assert!(told_at.elapsed() < STOP_WITHIN);
    for program in system.gateways.iter_mut().chain(&mut system.workers) {
        program.start_again()?;
    }
    assert_all_final(&finish_all(rush).await?);
    for (number, id) in last_minute {
        assert_eq!(system.person(number, 0)?.follow(id).await?, Status::Booked);
    }
    system.sell_out().await?;
    assert_eq!(system.counts().await?.booked, 40);
    system.finish().await
}

/// Bookings that nobody waits for: the stop has only their word.
async fn last_minute_bookings(system: &System, slot: SlotId) -> Result<Vec<(usize, BookingId)>> {
    let mut ids = Vec::new();
    for number in 110..115 {
        let answer = system.person(number, 0)?.book(slot, "last-minute").await;
        if let Answer::Booking { id, .. } = answer {
            ids.push((number, id));
        }
    }
    Ok(ids)
}

fn assert_all_final(endings: &BTreeMap<String, u64>) {
    let is_final = |word: &String| {
        ["booked", "slot_exhausted", "already_booked", "limit_reached"].contains(&word.as_str())
            || word.starts_with("rejected_")
    };
    assert!(endings.keys().all(is_final), "{endings:?}");
}
