//! Worker ids: leased, never shared, and of no use with a clock that can't be trusted.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use booking::snowflake::CLOCK_STEP_MAX_MS;
use booking::{BookingId, Clock as _, SystemClock};
use e2e::{Options, SOON, System};
use rush::answer::{Answer, Status};
use testkit::eventually;

/// The worker id in a booking id: eight bits above the sequence's eight.
fn worker_of(id: BookingId) -> i64 {
    (id.get() >> 8) & 0xff
}

#[tokio::test]
async fn no_two_gateways_mint_under_one_worker_id_not_even_after_a_death() -> Result<()> {
    let mut system = System::start(Options { gateways: 3, ..Options::default() }).await?;
    let slot = system.plan.offers[0].slot;
    let mut workers = BTreeSet::new();
    for gateway in 0..3 {
        let id = system.person(gateway, gateway)?.get(slot, "mine").await?;
        ensure!(workers.insert(worker_of(id)), "shared: {workers:?} and {id}");
    }
    // Its lease lives on for half a minute: until then nobody may mint under its id.
    system.gateways[0].kill();
    system.gateways[0].start_again()?;
    system.gateways[0].ready().await?;
    let id = system.person(3, 0)?.get(slot, "mine").await?;
    ensure!(workers.insert(worker_of(id)), "used again: {workers:?} and {id}");
    system.finish().await
}

#[tokio::test]
async fn a_gateway_whose_clock_went_back_mints_nothing_until_it_is_right_again() -> Result<()> {
    let system = System::start(Options::default()).await?;
    let slot = system.plan.offers[0].slot;
    let before = system.person(0, 0)?.get(slot, "mine").await?;
    let person = system.person(1, 0)?;
    // By more than is waited out.
    system.gateways[0].arm("clock.offset_ms=-10000")?;
    let answer = person.book(slot, "mine").await;
    let is_refused = matches!(&answer, Answer::Busy { code, .. } if code == "overloaded");
    ensure!(is_refused, "with a clock that went back: {answer:?}");
    system.gateways[0].arm("")?;
    let id = person.get(slot, "mine").await?;
    ensure!(id > before, "{id} is not after {before}");
    system.finish().await
}

#[tokio::test]
async fn a_gateway_started_with_a_clock_behind_says_so_and_serves_when_it_is_right() -> Result<()> {
    let mut system = System::start(Options::default()).await?;
    let slot = system.plan.offers[0].slot;
    let before = system.person(0, 0)?.get(slot, "mine").await?;
    // Asked to stop it gives its id back, which the next one then takes, and must not go below.
    system.gateways[0].terminate();
    system.gateways[0].ended(SOON).await?;
    let ends_at = SystemClock.now().plus_ms(CLOCK_STEP_MAX_MS + 100);
    eventually("the end of the lease", SOON, || async {
        (SystemClock.now() > ends_at).then_some(())
    })
    .await?;
    system.gateways[0].arm("clock.offset_ms=-20000")?;
    system.gateways[0].start_again()?;
    system.gateways[0].ready().await?;
    let person = system.person(1, 0)?;
    let answer = person.book(slot, "mine").await;
    let is_refused = matches!(&answer, Answer::Busy { code, .. } if code == "overloaded");
    ensure!(is_refused, "with a clock that is behind: {answer:?}");
    system.gateways[0].arm("")?;
    let id = person.book_at_last(slot, "mine").await?;
    ensure!(person.follow(id).await? == Status::Booked);
    ensure!(worker_of(id) == worker_of(before) && id > before, "{id} after {before}");
    system.finish().await
}
