//! Before the rush: a hospital, a release, a crowd.

use std::time::Duration;

use anyhow::{Context as _, bail};
use booking::{AccountId, Clock as _, PatientId, SystemClock, UnixMs};
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use ledger::Ledger;
use rand::Rng as _;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::admin::Admin;
use crate::client::Client;
use crate::history::{Offer, Plan};
use crate::settings::Preparation;

/// How many patients one statement creates.
const CROWD_CHUNK: u32 = 5_000;

/// How long preheating may take.
const PREHEAT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the release stays open.
const OPEN_FOR_MS: i64 = 3_600_000;

/// A person of the crowd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The account.
    pub account: AccountId,
    /// Its one patient.
    pub patient: PatientId,
}

/// Creates accounts, each with one patient.
///
/// # Errors
/// If PostgreSQL can't be reached.
pub async fn gather(ledger: &Ledger, patients: u32) -> anyhow::Result<Vec<Member>> {
    let mut members = Vec::new();
    let mut missing = patients;
    while missing > 0 {
        let count = missing.min(CROWD_CHUNK);
        let created = ledger.create_crowd(count).await.context("creating the crowd")?;
        members.extend(created.into_iter().map(|(account, patient)| Member { account, patient }));
        missing -= count;
    }
    Ok(members)
}

/// Spreads places over sessions and slots, as evenly as can be; never a slot without a place.
pub fn spread(places: u32, sessions: u32, slots_per_session: u32) -> Vec<Vec<u32>> {
    let slots = (sessions * slots_per_session).min(places);
    let capacity = |slot: u32| places / slots + u32::from(slot < places % slots);
    let all: Vec<u32> = (0..slots).map(capacity).collect();
    all.chunks(slots_per_session as usize).map(<[u32]>::to_vec).collect()
}

/// Creates a hospital with sessions and a release over all their slots, and preheats it.
/// Returns once the places stand in Redis.
///
/// # Errors
/// If the gateway refuses, or the places are not set aside in time.
pub async fn release(client: &Client, what: &Preparation) -> anyhow::Result<Plan> {
    let prepared_at = SystemClock.now();
    let admin = Admin::log_in(client, what).await?;
    let tag: u32 = rand::rng().random();
    let hospital = admin.create_hospital(&format!("Rush Hospital {tag:08x}")).await?;
    let department = admin.create_department(hospital, "Cardiology").await?;
    let mut offers = Vec::new();
    let date = tomorrow();
    for (nth, capacities) in
        spread(what.places, what.sessions, what.slots_per_session).iter().enumerate()
    {
        let doctor = admin.create_doctor(department, &format!("Doctor {}", nth + 1)).await?;
        let slots: Vec<_> = capacities
            .iter()
            .enumerate()
            .map(|(slot, capacity)| slot_body(date, slot, capacities.len(), *capacity))
            .collect::<anyhow::Result<_>>()?;
        let body =
            json!({"doctor_id": doctor, "on_date": date, "period": "morning", "slots": slots});
        let session = admin.create_session(&body).await?;
        if session.slots.len() != capacities.len() {
            bail!("a session of {} slots came back with {}", capacities.len(), session.slots.len());
        }
        let created = session.slots.iter().zip(capacities);
        offers.extend(created.map(|(slot, capacity)| Offer { slot: slot.id, capacity: *capacity }));
    }
    let opens_at = SystemClock.now().plus_ms(i64::from(what.lead_ms));
    let slot_ids: Vec<_> = offers.iter().map(|offer| offer.slot).collect();
    let body = json!({
        "hospital_id": hospital,
        "name": format!("Rush {tag:08x}"),
        "opens_at": text_time(opens_at)?,
        "closes_at": text_time(opens_at.plus_ms(OPEN_FOR_MS))?,
        "slot_ids": slot_ids,
    });
    let release = admin.create_release(&body).await?;
    admin.preheat(release).await?;
    let plan = Plan { release, prepared_at, opens_at, offers };
    wait_preheated(&admin, &plan).await?;
    Ok(plan)
}

async fn wait_preheated(admin: &Admin<'_>, plan: &Plan) -> anyhow::Result<()> {
    let deadline = Instant::now() + PREHEAT_TIMEOUT;
    let places = i64::from(plan.places());
    loop {
        let release = admin.release(plan.release).await?;
        if release.counts.capacity != places {
            bail!("the release has {} places, not {places}", release.counts.capacity);
        }
        if release.counts.left == Some(places) {
            return Ok(());
        }
        if Instant::now() > deadline {
            let left = release.counts.left.unwrap_or(0);
            bail!("{left} of {places} places stand in Redis; the release is {}", release.status);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

fn tomorrow() -> Date {
    let shanghai = TimeZone::get("Asia/Shanghai").unwrap_or(TimeZone::UTC);
    let today = Timestamp::now().to_zoned(shanghai).date();
    today.checked_add(1.day()).unwrap_or(today)
}

/// Slot `nth` of `count` that share the morning from 8 to 12 o'clock.
fn slot_body(
    date: Date,
    nth: usize,
    count: usize,
    capacity: u32,
) -> anyhow::Result<serde_json::Value> {
    let shanghai = TimeZone::get("Asia/Shanghai").unwrap_or(TimeZone::UTC);
    let morning = date.to_datetime(Time::constant(8, 0, 0, 0)).to_zoned(shanghai)?;
    let at = |index: usize| -> anyhow::Result<String> {
        let minutes = i64::try_from(index * 240 / count)?;
        let at = morning.checked_add(minutes.minutes())?;
        Ok(at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
    };
    Ok(json!({"starts_at": at(nth)?, "ends_at": at(nth + 1)?, "capacity": capacity}))
}

fn text_time(at: UnixMs) -> anyhow::Result<String> {
    Ok(Timestamp::from_millisecond(at.0)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_spread_evenly_and_no_slot_is_empty() {
        assert_eq!(spread(200, 2, 4), vec![vec![25; 4]; 2]);
        assert_eq!(spread(1, 2, 4), vec![vec![1]]);
        assert_eq!(spread(5, 2, 4), vec![vec![1; 4], vec![1]]);
        assert_eq!(spread(11, 2, 2), vec![vec![3, 3], vec![3, 2]]);
        assert_eq!(spread(20_000, 1, 1), vec![vec![20_000]]);
    }

    #[test]
    fn slots_share_the_morning_without_a_gap() {
        let date = jiff::civil::date(2026, 11, 20);
        let body = slot_body(date, 1, 8, 3).expect("a slot");
        assert_eq!(body["starts_at"], "2026-11-20T08:30:00+08:00");
        assert_eq!(body["ends_at"], "2026-11-20T09:00:00+08:00");
        assert_eq!(
            slot_body(date, 255, 256, 1).expect("a slot")["ends_at"],
            "2026-11-20T12:00:00+08:00"
        );
    }
}
