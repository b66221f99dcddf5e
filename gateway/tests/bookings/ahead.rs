//! What a gateway reads before anybody asks for it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use booking::rules::Limits;
use booking::{PatientId, SessionId, SystemClock};
use gateway::admission::facts::FactsCache;
use gateway::admission::memory::Memory;
use gateway::changes::Changes;
use gateway::status::waiters::Waiters;
use testkit::eventually;

use crate::clinic::{Clinic, Plan};

/// Looks are five seconds apart.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn sessions_on_offer_are_known_before_anybody_asks_and_new_limits_soon() -> anyhow::Result<()>
{
    let mut plan = Plan::of(&[3, 3], 1);
    plan.has_afternoon = true;
    let limits = |per_day_max| Limits { per_day_max: Some(per_day_max), ..Limits::default() };
    plan.limits = limits(2);
    let clinic = Clinic::open(plan).await?;
    let cache = FactsCache::start(clinic.ledger.clone(), Arc::new(SystemClock));
    let sessions = [clinic.slots[0].session(), clinic.slots[2].session()];
    assert_ne!(sessions[0], sessions[1]);
    eventually("both are known", SOON, async || {
        sessions.iter().all(|session| cache.knows(*session)).then_some(())
    })
    .await?;
    assert!(!cache.knows(SessionId::from(sessions[1].get() + 1)), "there is no such session");
    let facts = cache.find(sessions[0], Duration::ZERO).await.context("it is known")?;
    assert_eq!((facts.starts.len(), facts.limits.get()), (2, limits(2)));
    clinic.database.run("UPDATE hospital SET per_day_max = 1").await?;
    eventually("the new limits are known", SOON, async || {
        (facts.limits.get() == limits(1)).then_some(())
    })
    .await
}

/// Its time of change is taken before its commit: when it is there to be seen, later ones were seen already.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_late_is_found_behind_the_newest() -> anyhow::Result<()> {
    // Each of these is a copy of the first booking, for somebody else.
    let copy = |first: u32, last: u32, ago: &str| {
        format!(
            "INSERT INTO booking (id, partition, e, session_id, slot_id, patient_id, account_id,
                 key_digest, request_digest, state, number, accepted_at, changed_at,
                 held_hospital_id, held_on)
             SELECT id - (n::bigint << 22), partition, e, session_id, slot_id, patient_id + n, account_id,
                 key_digest, request_digest, state, number + n, accepted_at, changed_at - {ago},
                 held_hospital_id, held_on
             FROM booking, generate_series({first}, {last}) n WHERE number = 1"
        )
    };
    let clinic = Clinic::open(Plan::of(&[3], 1)).await?;
    clinic.start_worker(false);
    let booked = clinic.book(0, clinic.slots[0], "k").await?;
    let path = format!("/v1/bookings/{}?wait=20", booked.id());
    assert_eq!(clinic.get(0, &path).await?.status(), (200, "booked"));
    let (changes, memory, waiters) = (Changes::default(), Memory::default(), Waiters::new(1));
    let look = async |overlap_ms| {
        assert!(changes.catch_up(&clinic.ledger, &memory, &waiters, overlap_ms).await?);
        anyhow::Ok(())
    };
    // So many that they are not named each time.
    clinic.database.run(&copy(1_001, 2_000, "n * interval '10 us'")).await?;
    look(300).await?;
    let first = clinic.patients[0].1;
    let somebody = |n| PatientId::from(first.get() + n);
    assert!(memory.held.knows(first) && memory.held.knows(somebody(2_000)));
    let late = somebody(3_000);
    clinic.database.run(&copy(3_000, 3_000, "interval '200 ms'")).await?;
    look(100).await?;
    assert!(!memory.held.knows(late), "it is further back");
    look(300).await?;
    assert!(memory.held.knows(late));
    Ok(())
}
