//! What a gateway reads before anybody asks for it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use booking::rules::Limits;
use booking::{SessionId, SystemClock};
use gateway::admission::facts::FactsCache;
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
