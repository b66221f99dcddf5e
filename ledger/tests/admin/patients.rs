//! Whom accounts act for.

use anyhow::Result;
use ledger::account::Role;
use ledger::patient::{NewPatient, PATIENTS_PER_ACCOUNT_MAX, PatientAdded};

use crate::World;

fn person(number: u8) -> NewPatient {
    NewPatient {
        id_number_hash: vec![number; 32],
        id_number_sealed: vec![number],
        name_sealed: vec![number, 1],
    }
}

#[tokio::test]
async fn one_person_is_one_patient_for_whoever_acts_for_them() -> Result<()> {
    let world = World::new().await?;
    let mother = world.account("mother", Role::Patient).await?;
    let father = world.account("father", Role::Patient).await?;
    let first = world.ledger.add_patient(mother, person(1)).await?;
    assert_eq!(world.ledger.add_patient(father, person(1)).await?, first);
    let PatientAdded::Done(child) = first else { panic!("{first:?}") };
    assert!(world.ledger.is_patient_of(mother, child).await?);
    assert!(world.ledger.remove_patient(mother, child).await?);
    assert!(!world.ledger.remove_patient(mother, child).await?);
    assert!(!world.ledger.is_patient_of(mother, child).await?);
    assert!(world.ledger.is_patient_of(father, child).await?);
    Ok(())
}

#[tokio::test]
async fn adding_a_person_again_renames_them() -> Result<()> {
    let world = World::new().await?;
    let account = world.account("li", Role::Patient).await?;
    world.ledger.add_patient(account, person(1)).await?;
    let renamed = NewPatient { name_sealed: b"new".to_vec(), ..person(1) };
    world.ledger.add_patient(account, renamed).await?;
    let rows = world.ledger.patients(account).await?;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].name_sealed, b"new");
    Ok(())
}

/// The race: each of many sees four and adds a fifth.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_account_never_has_more_patients_than_allowed_however_many_are_added_at_once()
-> Result<()> {
    let world = World::new().await?;
    let account = world.account("li", Role::Patient).await?;
    let tries: Vec<_> = (0..16_u8)
        .map(|n| {
            let ledger = world.ledger.clone();
            tokio::spawn(async move { ledger.add_patient(account, person(n)).await })
        })
        .collect();
    let mut added = 0;
    for one in tries {
        added += i32::from(matches!(one.await??, PatientAdded::Done(_)));
    }
    assert_eq!(added, PATIENTS_PER_ACCOUNT_MAX);
    assert_eq!(world.ledger.patients(account).await?.len(), 5);
    Ok(())
}

/// The race: two accounts meet the same new person.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_accounts_that_add_a_person_at_once_get_the_same_patient() -> Result<()> {
    let world = World::new().await?;
    let mother = world.account("mother", Role::Patient).await?;
    let father = world.account("father", Role::Patient).await?;
    for n in 0..5 {
        let (one, other) = tokio::join!(
            world.ledger.add_patient(mother, person(n)),
            world.ledger.add_patient(father, person(n))
        );
        assert_eq!(one?, other?);
    }
    Ok(())
}

#[tokio::test]
async fn a_crowd_is_as_large_as_asked_and_everybody_acts_for_somebody_of_their_own() -> Result<()> {
    let world = World::new().await?;
    let crowd = world.ledger.create_crowd(12_001).await?;
    assert_eq!(crowd.len(), 12_001);
    let accounts: std::collections::HashSet<_> = crowd.iter().map(|(a, _)| *a).collect();
    let patients: std::collections::HashSet<_> = crowd.iter().map(|(_, p)| *p).collect();
    assert_eq!((accounts.len(), patients.len()), (12_001, 12_001));
    let (account, patient) = crowd[7_000];
    assert!(world.ledger.is_patient_of(account, patient).await?);
    Ok(())
}
