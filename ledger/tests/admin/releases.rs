//! Releases: which slots, and the changes of state.

use anyhow::Result;
use booking::{ReleaseId, SlotId, UnixMs};
use ledger::release::ReleaseVerb::{self, Close, Pause, Preheat, Resume};
use ledger::release::{NewRelease, ReleaseChanged, ReleaseCreated, ReleaseState, ReleaseWord};
use sqlx::{Connection as _, PgConnection};

use crate::{Clinic, World};

/// 2100-01-01T00:00:00Z: not over while these tests run.
pub(crate) const FAR: UnixMs = UnixMs(4_102_444_800_000);

fn release(clinic: &Clinic, slots: Vec<SlotId>) -> NewRelease {
    NewRelease {
        hospital: clinic.hospital,
        name: "三月".to_owned(),
        opens_at: FAR.plus_ms(-1000),
        closes_at: FAR,
        slots,
    }
}

async fn create(world: &World, clinic: &Clinic, slots: Vec<SlotId>) -> Result<ReleaseCreated> {
    Ok(world.ledger.create_release(clinic.admin, release(clinic, slots)).await?)
}

pub(crate) async fn created(
    world: &World,
    clinic: &Clinic,
    slots: Vec<SlotId>,
) -> Result<ReleaseId> {
    match create(world, clinic, slots).await? {
        ReleaseCreated::Done(id) => Ok(id),
        other => anyhow::bail!("{other:?}"),
    }
}

#[tokio::test]
async fn a_release_takes_slots_of_its_hospital_that_no_other_release_has() -> Result<()> {
    let world = World::new().await?;
    let (clinic, other) = (world.clinic("first").await?, world.clinic("second").await?);
    let (mine, foreign) = (world.slots(&clinic, 1).await?, world.slots(&other, 1).await?);
    let missing = SlotId::from(1 << 40);
    let made = create(&world, &clinic, vec![mine[0], missing]).await?;
    assert_eq!(made, ReleaseCreated::NoSlot(missing));
    let made = create(&world, &clinic, vec![mine[0], foreign[0]]).await?;
    assert_eq!(made, ReleaseCreated::NoSlot(foreign[0]));
    let id = created(&world, &clinic, vec![mine[0]]).await?;
    let made = create(&world, &clinic, mine.clone()).await?;
    assert_eq!(made, ReleaseCreated::SlotTaken(mine[0]));
    world.ledger.change_release(clinic.admin, id, ReleaseVerb::Close).await?;
    created(&world, &clinic, mine).await?;
    Ok(())
}

/// The race: both see the slots free.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_releases_that_want_one_slot_at_once_one_gets_it() -> Result<()> {
    let world = World::new().await?;
    let clinic = world.clinic("first").await?;
    for day in 1..=8 {
        let slots = world.slots(&clinic, day).await?;
        let reversed: Vec<_> = slots.iter().rev().copied().collect();
        let (one, other) =
            tokio::join!(create(&world, &clinic, slots), create(&world, &clinic, reversed));
        let is_done = |made| matches!(made, ReleaseCreated::Done(_));
        assert!(is_done(one?) != is_done(other?), "day {day}");
    }
    Ok(())
}

#[tokio::test]
async fn preheating_offers_all_places_and_closing_takes_the_offer_back() -> Result<()> {
    let world = World::new().await?;
    let clinic = world.clinic("first").await?;
    let slots = world.slots(&clinic, 1).await?;
    let id = created(&world, &clinic, slots.clone()).await?;
    let ledger = &world.ledger;
    let find = async || ledger.release(id).await.map(|found| found.expect("it is there"));
    assert_eq!(ledger.slots_of_release(id).await?, slots);
    let planned = find().await?;
    assert_eq!((planned.counts.capacity, planned.counts.free), (20, 0));
    assert_eq!((planned.state, planned.version), (ReleaseState::Planned, 1));

    let changed = ledger.change_release(clinic.admin, id, ReleaseVerb::Preheat).await?;
    assert_eq!(changed, ReleaseChanged::Done);
    let preheated = find().await?;
    assert_eq!((preheated.counts.slots, preheated.counts.free), (2, 20));
    assert_eq!(preheated.word(FAR.plus_ms(-1001)), ReleaseWord::Preheated);
    assert_eq!(preheated.word(FAR.plus_ms(-1)), ReleaseWord::Open);
    assert_eq!(preheated.word(FAR), ReleaseWord::Closed);

    ledger.change_release(clinic.admin, id, ReleaseVerb::Close).await?;
    let closed = find().await?;
    assert_eq!((closed.state, closed.counts.free), (ReleaseState::Closed, 0));
    assert_eq!(closed.version, 3);
    Ok(())
}

#[tokio::test]
async fn asking_again_changes_nothing_and_a_closed_release_stays_closed() -> Result<()> {
    let world = World::new().await?;
    let clinic = world.clinic("first").await?;
    let slots = world.slots(&clinic, 1).await?;
    let id = created(&world, &clinic, slots).await?;
    let change = async |verb| world.ledger.change_release(clinic.admin, id, verb).await;
    for verb in [Resume, Pause, Pause, Preheat, Preheat, Resume, Close, Close] {
        assert_eq!(change(verb).await?, ReleaseChanged::Done, "{verb:?}");
    }
    for verb in [Preheat, Pause, Resume] {
        assert_eq!(change(verb).await?, ReleaseChanged::WrongState, "{verb:?}");
    }
    let found = world.ledger.release(id).await?.expect("it is there");
    // Created, paused, preheated, resumed, closed.
    assert_eq!(found.version, 5);
    let log = world.ledger.audit_log("release", id.get(), 20).await?;
    let actions: Vec<_> = log.iter().rev().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["create", "pause", "preheat", "resume", "close"]);
    let nothing = world.ledger.change_release(clinic.admin, ReleaseId::from(999), Pause).await?;
    assert_eq!(nothing, ReleaseChanged::NoRelease);
    Ok(())
}

#[tokio::test]
async fn a_release_whose_time_is_over_is_not_preheated() -> Result<()> {
    let world = World::new().await?;
    let clinic = world.clinic("first").await?;
    let slots = world.slots(&clinic, 1).await?;
    let new = NewRelease {
        opens_at: UnixMs(1_000_000_000_000),
        closes_at: UnixMs(1_000_000_001_000),
        ..release(&clinic, slots)
    };
    let ReleaseCreated::Done(id) = world.ledger.create_release(clinic.admin, new).await? else {
        panic!("made");
    };
    let changed = world.ledger.change_release(clinic.admin, id, ReleaseVerb::Preheat).await?;
    assert_eq!(changed, ReleaseChanged::WrongState);
    Ok(())
}

#[tokio::test]
async fn the_sessions_of_a_release_are_told_once_each() -> Result<()> {
    let world = World::new().await?;
    let clinic = world.clinic("first").await?;
    let (first, second) = (world.slots(&clinic, 1).await?, world.slots(&clinic, 2).await?);
    let other = created(&world, &clinic, world.slots(&clinic, 3).await?).await?;
    let id = created(&world, &clinic, [first.clone(), second.clone()].concat()).await?;
    let mut sessions = world.ledger.sessions_of_release(id, 10).await?;
    sessions.sort_unstable();
    assert!(first.len() > 1, "several slots of each");
    assert_eq!(sessions, [first[0].session(), second[0].session()]);
    assert_eq!(world.ledger.sessions_of_release(id, 1).await?.len(), 1);
    assert_eq!(world.ledger.sessions_of_release(other, 10).await?.len(), 1);
    Ok(())
}

/// Beside 20 million slots of others a walk over all of them met its timeout.
#[tokio::test]
async fn the_sessions_of_a_release_are_found_without_looking_at_others() -> Result<()> {
    let world = World::new().await?;
    let mut connection = world.connection().await?;
    // So many that the planner has a choice, in ten releases of a hundred sessions each.
    let filled = sqlx::raw_sql(
        "SET session_replication_role = replica;
         INSERT INTO slot (id, session_id, partition, release_id, starts_at, ends_at, capacity)
         SELECT session * 256 + place, session, 0, session / 100, now(), now() + interval '1 h', 1
         FROM generate_series(100, 1099) session, generate_series(0, 9) place;
         ANALYZE slot",
    );
    filled.execute(&mut connection).await?;
    let mut transaction = connection.begin().await?;
    let sessions: Vec<i64> = sqlx::query_scalar("SELECT sessions_of_release(10, 1000)")
        .fetch_all(&mut *transaction)
        .await?;
    assert_eq!(sessions.len(), 100);
    assert_eq!(slots_looked_at(&mut transaction).await?, 1_000);
    Ok(())
}

/// Planned while there were few slots, the statement asked of each slot of the table whether it was wanted: a
/// release of a hundred thousand, made right after its slots, met its timeout.
#[tokio::test]
async fn a_release_is_made_without_looking_at_slots_of_others() -> Result<()> {
    let world = World::new().await?;
    let clinic = world.clinic("first").await?;
    let mut slots = Vec::new();
    for day in 1..=10 {
        slots.extend(world.slots(&clinic, day).await?);
    }
    let mut connection = world.connection().await?;
    sqlx::raw_sql("ALTER TABLE slot SET (autovacuum_enabled = off); ANALYZE slot")
        .execute(&mut connection)
        .await?;
    let create = "SELECT (release_create($1, $2, 'x', now(), now() + interval '1 h', $3)).outcome";
    let create = |wanted: &[SlotId]| {
        let wanted: Vec<i64> = wanted.iter().map(|slot| slot.get()).collect();
        sqlx::query_scalar::<_, String>(create)
            .bind(clinic.admin.get())
            .bind(clinic.hospital.get())
            .bind(wanted)
    };
    // From here on this connection keeps the plan.
    assert_eq!(create(&slots[..2]).fetch_one(&mut connection).await?, "done");
    let filled = sqlx::raw_sql(
        "SET session_replication_role = replica;
         INSERT INTO slot (id, session_id, partition, starts_at, ends_at, capacity)
         SELECT session * 256 + place, session, 0, now(), now() + interval '1 h', 1
         FROM generate_series(100000, 100999) session, generate_series(0, 9) place",
    );
    filled.execute(&mut world.connection().await?).await?;
    let mut transaction = connection.begin().await?;
    assert_eq!(create(&slots[2..]).fetch_one(&mut *transaction).await?, "done");
    let looked_at = slots_looked_at(&mut transaction).await?;
    // Each of eighteen is locked, judged twice and written; ten thousand are others'.
    assert!(looked_at < 1_000, "{looked_at}");
    Ok(())
}

/// Rows of slots read in this transaction: what another one read is not counted.
async fn slots_looked_at(transaction: &mut PgConnection) -> Result<i64> {
    let count = sqlx::query_scalar(
        "SELECT seq_tup_read + idx_tup_fetch
         FROM pg_stat_xact_user_tables
         WHERE relname = 'slot'",
    );
    Ok(count.fetch_one(transaction).await?)
}

#[tokio::test]
async fn releases_are_listed_latest_first() -> Result<()> {
    let world = World::new().await?;
    let clinic = world.clinic("first").await?;
    let mut ids = Vec::new();
    for day in 1..=3 {
        let slots = world.slots(&clinic, day).await?;
        ids.insert(0, created(&world, &clinic, slots).await?);
    }
    let list = async |before, limit| -> Result<Vec<ReleaseId>> {
        let rows = world.ledger.releases(before, limit).await?;
        Ok(rows.iter().map(|row| row.id).collect())
    };
    assert_eq!(list(None, 2).await?, ids[..2]);
    assert_eq!(list(Some(ids[1]), 2).await?, ids[2..]);
    Ok(())
}
