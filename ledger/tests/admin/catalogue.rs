//! Hospitals, departments, doctors, sessions.

use anyhow::Result;
use booking::rules::Limits;
use booking::{DepartmentId, DoctorId, HospitalId, SessionId};
use jiff::civil::date;
use ledger::catalogue::{
    DepartmentCreated, DoctorCreated, HospitalCreated, NewDoctor, Period, Rank, SessionCreated,
    SessionFilter,
};

use crate::{World, partitions, slots_of};

#[tokio::test]
async fn names_are_unique_where_they_must_be_and_parents_must_exist() -> Result<()> {
    let world = World::new().await?;
    let clinic = world.clinic("first").await?;
    let ledger = &world.ledger;
    let (admin, zone) = (clinic.admin, "Asia/Shanghai".to_owned());
    let made = ledger.create_hospital(admin, "first".into(), zone, Limits::default()).await?;
    assert_eq!(made, HospitalCreated::NameTaken);
    let made = ledger.create_department(admin, clinic.hospital, "内科".into()).await?;
    assert_eq!(made, DepartmentCreated::NameTaken);
    let made = ledger.create_department(admin, HospitalId::from(999), "内科".into()).await?;
    assert_eq!(made, DepartmentCreated::NoHospital);
    let department = DepartmentId::from(999);
    let new = NewDoctor { department, name: "x".into(), rank: Rank::Resident, fee_fen: 0 };
    assert_eq!(ledger.create_doctor(admin, new).await?, DoctorCreated::NoDepartment);
    Ok(())
}

#[tokio::test]
async fn what_was_made_is_listed_found_and_noted() -> Result<()> {
    let world = World::new().await?;
    let clinic = world.clinic("first").await?;
    let ledger = &world.ledger;
    let hospitals = ledger.hospitals(None, 10).await?;
    assert_eq!(hospitals.len(), 1);
    assert_eq!(hospitals[0].limits.per_day_max, Some(2));
    assert_eq!(hospitals[0].limits.per_week_max, None);
    assert!(ledger.hospitals(Some(clinic.hospital), 10).await?.is_empty());
    let departments = ledger.departments(clinic.hospital, None, 10).await?;
    let doctors = ledger.doctors(departments[0].id, None, 10).await?;
    assert_eq!((doctors[0].id, doctors[0].rank), (clinic.doctor, Rank::Chief));
    let place = ledger.place_of_doctor(clinic.doctor).await?.expect("it is there");
    assert_eq!((place.hospital, place.time_zone.as_str()), (clinic.hospital, "Asia/Shanghai"));
    for (subject, id) in [
        ("hospital", clinic.hospital.get()),
        ("department", departments[0].id.get()),
        ("doctor", clinic.doctor.get()),
    ] {
        let log = ledger.audit_log(subject, id, 10).await?;
        assert_eq!(log.len(), 1, "{subject}");
        assert_eq!(log[0].account, Some(clinic.admin));
    }
    Ok(())
}

#[tokio::test]
async fn a_session_lies_in_the_partition_of_its_id_and_numbers_its_slots() -> Result<()> {
    let world = World::new().await?;
    let clinic = world.clinic("first").await?;
    for day in 1..=6 {
        let made = world.session(&clinic, day, 10).await?;
        let SessionCreated::Done(id) = made else { panic!("{made:?}") };
        let session = world.ledger.session(id).await?.expect("it is there");
        assert_eq!(session.partition, partitions().of_session(id));
        let slots: Vec<_> = session.slots.iter().map(|slot| slot.id).collect();
        assert_eq!(slots, slots_of(id));
        assert_eq!((session.slots[0].capacity, session.slots[0].left), (10, 0));
        assert!(session.slots[0].release.is_none());
    }
    assert_eq!(world.session(&clinic, 1, 10).await?, SessionCreated::AlreadyThere);
    let stranger = crate::Clinic { doctor: DoctorId::from(999), ..clinic };
    assert_eq!(world.session(&stranger, 1, 10).await?, SessionCreated::NoDoctor);
    assert!(world.ledger.session(SessionId::from(999)).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn sessions_are_listed_by_date_page_by_page() -> Result<()> {
    let world = World::new().await?;
    let clinic = world.clinic("first").await?;
    for day in [5, 3, 4, 1, 2] {
        world.session(&clinic, day, 10).await?;
    }
    let ledger = &world.ledger;
    let place = ledger.place_of_doctor(clinic.doctor).await?.expect("it is there");
    let (from, to) = (date(2026, 3, 2), date(2026, 3, 4));
    for filter in
        [SessionFilter::Doctor(clinic.doctor), SessionFilter::Department(place.department)]
    {
        assert_eq!(ledger.zone_of(filter).await?.as_deref(), Some("Asia/Shanghai"));
        let mut days = Vec::new();
        let mut after = None;
        loop {
            let page = ledger.sessions(filter, from, to, after, 2).await?;
            let Some(last) = page.last() else { break };
            after = Some((last.on_date, last.id));
            days.extend(page.iter().map(|session| session.on_date.day()));
            assert!(page.iter().all(|session| session.slots.len() == 2));
        }
        assert_eq!(days, [2, 3, 4]);
    }
    let nobody = SessionFilter::Doctor(DoctorId::from(999));
    assert_eq!(ledger.zone_of(nobody).await?, None);
    Ok(())
}

#[tokio::test]
async fn admission_learns_place_day_and_limits_of_a_session() -> Result<()> {
    let world = World::new().await?;
    let clinic = world.clinic("first").await?;
    let made = world.session(&clinic, 2, 10).await?;
    let SessionCreated::Done(id) = made else { panic!("{made:?}") };
    let found = world.ledger.session_facts(&[id, SessionId::from(999)]).await?;
    let [(found_id, facts)] = &found[..] else { panic!("one is there: {found:?}") };
    assert_eq!(*found_id, id);
    assert_eq!(facts.hospital, clinic.hospital);
    assert_eq!(facts.limits.per_day_max, Some(2));
    // 2026-03-02 is so many days after 1970-01-01.
    assert_eq!(facts.day, 20_514);
    assert!(!facts.is_withdrawn);
    let session = world.ledger.session(id).await?.expect("it is there");
    let starts: Vec<_> = session.slots.iter().map(|slot| slot.starts_at).collect();
    assert_eq!(facts.starts, starts);
    let other = world.clinic("second").await?.hospital;
    let asked = [clinic.hospital, HospitalId::from(999), other];
    let mut limits = world.ledger.limits_of(&asked).await?;
    limits.sort_by_key(|(hospital, _)| *hospital);
    assert_eq!(limits, [(clinic.hospital, facts.limits), (other, facts.limits)]);
    Ok(())
}

#[tokio::test]
async fn a_doctor_has_one_session_at_a_time() -> Result<()> {
    let world = World::new().await?;
    let clinic = world.clinic("first").await?;
    // Two slots, from the hour 0 to the hour 2.
    let first = world.session_at(&clinic, 2, Period::Morning, 0).await?;
    assert!(matches!(first, SessionCreated::Done(_)), "{first:?}");
    let again = world.session_at(&clinic, 2, Period::Morning, 0).await?;
    assert_eq!(again, SessionCreated::AlreadyThere);
    for hour in [-1, 0, 1] {
        let made = world.session_at(&clinic, 2, Period::Afternoon, hour).await?;
        assert_eq!(made, SessionCreated::Overlaps, "{hour}");
    }
    for (period, hour) in [(Period::Afternoon, 2), (Period::Evening, -2)] {
        let made = world.session_at(&clinic, 2, period, hour).await?;
        assert!(matches!(made, SessionCreated::Done(_)), "{hour}: {made:?}");
    }
    let another = world.clinic("second").await?;
    let made = world.session_at(&another, 2, Period::Evening, 1).await?;
    assert!(matches!(made, SessionCreated::Done(_)), "another doctor: {made:?}");
    Ok(())
}

/// The race: both look before either is made.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_sessions_of_a_doctor_that_overlap_and_are_made_at_once_one_is() -> Result<()> {
    let world = World::new().await?;
    let clinic = world.clinic("first").await?;
    for day in 1..=20 {
        let (one, other) = tokio::join!(
            world.session_at(&clinic, day, Period::Morning, 0),
            world.session_at(&clinic, day, Period::Afternoon, 1),
        );
        let made = [one?, other?];
        let count = |what: fn(&SessionCreated) -> bool| made.iter().filter(|one| what(one)).count();
        let done = count(|one| matches!(one, SessionCreated::Done(_)));
        let overlaps = count(|one| matches!(one, SessionCreated::Overlaps));
        assert_eq!((done, overlaps), (1, 1), "{made:?}");
    }
    Ok(())
}
