//! Places that come back, and releases that an admin holds up or ends.

use std::time::{Duration, Instant};

use anyhow::Result;
use booking::{Clock as _, SystemClock};
use e2e::{Options, SOON, System};
use rush::answer::{Answer, Status};
use testkit::eventually;

/// "Within about a second", and twice that on a busy machine.
const SOLD_AGAIN_WITHIN: Duration = Duration::from_secs(3);
const HOUR_MS: i64 = 3_600_000;

#[tokio::test]
async fn a_cancelled_place_is_soon_sold_to_someone_who_was_told_there_is_none() -> Result<()> {
    let options = Options { places: 2, slots: 1, patients: 4, ..Options::default() };
    let system = System::start(options).await?;
    let slot = system.plan.offers[0].slot;
    let (leaver, stayer) = (system.person(0, 0)?, system.person(1, 0)?);
    let (lucky, late) = (system.person(2, 0)?, system.person(3, 0)?);
    let id = leaver.get(slot, "leaver").await?;
    stayer.get(slot, "stayer").await?;
    for person in [&lucky, &late, &lucky, &late] {
        assert_eq!(person.book(slot, "hope").await, refused("slot_exhausted"));
    }

    leaver.cancel(id).await?;
    let cancelled_at = Instant::now();
    let second = lucky.book_at_last(slot, "hope").await?;
    let took = cancelled_at.elapsed();
    println!("sold again after {took:?}");
    assert!(took < SOLD_AGAIN_WITHIN, "sold again only after {took:?}");
    assert_eq!(lucky.follow(second).await?, Status::Booked);

    let replay = leaver.book(slot, "leaver").await;
    assert_eq!(replay, Answer::Booking { id, status: Status::Cancelled, reason: None });
    assert_eq!(late.book(slot, "hope").await, refused("slot_exhausted"));
    assert_eq!(system.counts().await?.booked, 2);
    system.finish().await
}

#[tokio::test]
async fn a_release_is_paused_resumed_and_closed_from_the_next_request_on() -> Result<()> {
    let options = Options { places: 4, slots: 1, patients: 5, ..Options::default() };
    let mut system = System::start(options).await?;
    let slot = system.plan.offers[0].slot;
    let (first, second, late) = (system.person(0, 0)?, system.person(1, 0)?, system.person(2, 0)?);
    let id = first.get(slot, "mine").await?;

    system.change_release("pause").await?;
    assert_eq!(second.book(slot, "mine").await, refused("release_paused"));
    let known = Answer::Booking { id, status: Status::Booked, reason: None };
    assert_eq!(first.book(slot, "mine").await, known);
    // Refused just now: what the gateway remembers of that must not outlive the resume.
    assert_eq!(second.book(slot, "mine").await, refused("release_paused"));
    system.change_release("resume").await?;
    second.get(slot, "mine").await?;

    system.change_release("close").await?;
    // "Later" for the moment in which quota is taken back, and never a place.
    assert_eq!(late.book_when_ready(slot, "mine").await, refused("release_closed"));
    assert_eq!(first.book(slot, "mine").await, known);
    let unsold = eventually("the unsold places back", SOON, || async {
        let counts = system.counts().await.ok()?;
        (counts.escrowed == 0).then_some(counts.capacity - counts.booked)
    })
    .await?;
    assert_eq!(unsold, 2);

    // Not only on paper: they can go on offer again, and be sold.
    system.offer_again().await?;
    for number in 3..5 {
        let person = system.person(number, 0)?;
        let id = person.book_at_last(slot, "again").await?;
        assert_eq!(person.follow(id).await?, Status::Booked);
    }
    assert_eq!(late.book_when_ready(slot, "again").await, refused("slot_exhausted"));
    assert_eq!(system.counts().await?.booked, 4);
    system.finish().await
}

#[tokio::test]
async fn a_slot_that_redis_was_given_nothing_of_is_refused_for_what_it_is() -> Result<()> {
    let options = Options { places: 2, slots: 1, patients: 3, ..Options::default() };
    let mut system = System::start(options).await?;
    let slot = system.plan.offers[0].slot;
    for number in 0..2 {
        system.person(number, 0)?.get(slot, "mine").await?;
    }
    // The new ledger has no quota of a slot that is sold out.
    system.flush_redis().await?;
    let late = system.person(2, 0)?;
    assert_eq!(late.book_when_ready(slot, "hope").await, refused("slot_exhausted"));

    system.change_release("close").await?;
    let closed = eventually("the close", SOON, || async {
        // "Sold out" is remembered for a second; it was as true.
        let answer = late.book_when_ready(slot, "hope").await;
        (answer != refused("slot_exhausted")).then_some(answer)
    });
    assert_eq!(closed.await?, refused("release_closed"));

    // Nor of one whose release is far away.
    let opens_at = SystemClock.now().plus_ms(HOUR_MS);
    let next = system.create_release(opens_at).await?;
    let not_open =
        Answer::Refused { code: "release_not_open".to_owned(), opens_at: Some(opens_at) };
    let asked_again = eventually("the next release", SOON, || async {
        // What the gateway remembers of the one before ends by itself.
        let answer = late.book_when_ready(slot, "hope").await;
        (answer != refused("release_closed")).then_some(answer)
    });
    assert_eq!(asked_again.await?, not_open);

    system.plan.release = next;
    system.change_release("preheat").await?;
    system.finish().await
}

fn refused(code: &str) -> Answer {
    Answer::Refused { code: code.to_owned(), opens_at: None }
}
