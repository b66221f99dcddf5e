//! Crowds on a healthy system.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use e2e::{Manner, Options, System, finish_all};
use rush::answer::Answer;
use rush::history::Ask;

/// A worker audits every second here, and the outbox is empty soon after a rush.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn of_two_hundred_patients_who_rush_for_twenty_places_exactly_twenty_get_one() -> Result<()> {
    let options = Options { places: 20, slots: 2, patients: 200, ..Options::default() };
    let system = System::start(options).await?;
    let manner = Manner { within_ms: 500, double_clicks: true, ..Manner::default() };
    let endings = system.rush(0..200, manner)?.finish().await?;
    let expected = [("booked".to_owned(), 20), ("slot_exhausted".to_owned(), 180)];
    assert_eq!(endings, BTreeMap::from(expected));

    let mut ids: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for event in system.events() {
        if let (Ask::Book(wish), Answer::Booking { id, .. }) = (event.ask, event.answer) {
            ids.entry((event.patient, wish.key)).or_default().push(id);
        }
    }
    assert!(ids.values().any(|ids| ids.len() >= 2), "nobody's two clicks were both answered");
    for ids in ids.values() {
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 1, "{ids:?}");
    }
    let counts = system.counts().await?;
    assert_eq!((counts.booked, counts.capacity), (20, 20));
    every_invariant_is_a_gauge(&system).await?;
    system.finish().await
}

/// The two programs together have a gauge of every promise, and each is clean.
async fn every_invariant_is_a_gauge(system: &System) -> Result<()> {
    testkit::eventually("a clean gauge of every invariant", SOON, || async {
        let mut metrics = system.gateways[0].metrics().await.ok()?;
        metrics += &system.workers[0].metrics().await.ok()?;
        let is_shown = |gauge: &str, value: &str| {
            metrics.lines().any(|line| line.strip_prefix(gauge).is_some_and(|v| v.trim() == value))
        };
        let invariants = (1..=11).map(|n| format!("slotrush_violations{{invariant=\"I{n}\"}}"));
        let l1 = "slotrush_outbox_oldest_seconds{partition=\"0\"}".to_owned();
        let l2 = ["redis", "rabbitmq", "postgresql", "admission.0"]
            .map(|part| format!("slotrush_interrupted_seconds{{part=\"{part}\"}}"));
        invariants.chain([l1]).chain(l2).all(|gauge| is_shown(&gauge, "0")).then_some(())
    })
    .await
}

#[tokio::test]
async fn doubled_envelopes_shuffled_batches_and_clocks_seconds_apart_change_nothing() -> Result<()>
{
    let options = Options { gateways: 2, ..Options::default() };
    let system = System::start(options).await?;
    system.gateways[0].arm("publish.twice=50%;clock.offset_ms=-2000")?;
    system.gateways[1].arm("publish.twice=100%;clock.offset_ms=1500")?;
    system.workers[0].arm("batch.shuffle=100%;clock.offset_ms=-3000")?;
    let at = |gateway| Manner { within_ms: 800, gateway, repeats: true, ..Manner::default() };
    let endings = finish_all([system.rush(0..60, at(0))?, system.rush(60..120, at(1))?]).await?;
    assert!(!endings.contains_key("unanswered"), "{endings:?}");
    system.sell_out().await?;
    assert_eq!(system.counts().await?.booked, 40);
    system.finish().await
}

#[tokio::test]
async fn two_gateways_and_two_workers_sell_every_place_once() -> Result<()> {
    let options = Options { gateways: 2, workers: 2, ..Options::default() };
    let system = System::start(options).await?;
    let at = |gateway| Manner { within_ms: 800, gateway, ..Manner::default() };
    let (one, two) = (system.rush(0..60, at(0))?, system.rush(60..119, at(1))?);
    // The last one clicks at both gateways with one key.
    let slot = system.plan.offers[0].slot;
    let (here, there) = (system.person(119, 0)?, system.person(119, 1)?);
    let (first, second) =
        tokio::join!(here.book_at_last(slot, "both"), there.book_at_last(slot, "both"),);
    assert_eq!(first?, second?);
    let endings = finish_all([one, two]).await?;
    assert!(!endings.contains_key("unanswered"), "{endings:?}");
    assert_eq!(endings["booked"] + 1, 40);
    system.finish().await
}
