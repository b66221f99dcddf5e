//! PostgreSQL out of reach in the middle of a rush.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use e2e::{Manner, Options, System};
use rush::answer::{Answer, Status};
use testkit::eventually;

const OUTAGE: Duration = Duration::from_secs(3);
/// L2: how soon bookings are persisted again.
const BACK_WITHIN: Duration = Duration::from_secs(2);

#[tokio::test]
async fn postgresql_out_of_reach_for_three_seconds_loses_nothing() -> Result<()> {
    // More places than patients: nobody can be told that nothing is left.
    let options = Options { places: 200, has_fragile_network: true, ..Options::default() };
    let system = System::start(options).await?;
    let slot = system.plan.offers[0].slot;
    // The worker first, so that accepted bookings wait in the queue when the gateway is cut off.
    let networks = system.networks()?;
    networks.workers.cut();
    let rush = system.rush(0..60, Manner { within_ms: 600, ..Manner::default() })?;
    rush.until_answered(30).await?;
    networks.gateways.cut();
    let cut_at = Instant::now();

    let mut asked = 0;
    for number in (60..120).cycle() {
        if cut_at.elapsed() >= OUTAGE {
            break;
        }
        match system.person(number, 0)?.book(slot, "meanwhile").await {
            Answer::Booking { status: Status::Pending, .. }
            | Answer::Busy { retry_after_s: Some(_), .. } => {}
            other => panic!("neither pending nor 503: {other:?}"),
        }
        asked += 1;
    }
    assert!(asked > 0);
    assert_eq!(system.counts().await?.booked, 0);

    networks.gateways.heal();
    networks.workers.heal();
    let healed_at = Instant::now();
    eventually("persisting", BACK_WITHIN, || async {
        let counts = system.counts().await.ok()?;
        (counts.booked > 0).then_some(())
    })
    .await?;
    println!("persisting again after {:?}", healed_at.elapsed());
    let endings = rush.finish().await?;
    assert_eq!(endings, BTreeMap::from([("booked".to_owned(), 60)]));
    system.finish().await
}
