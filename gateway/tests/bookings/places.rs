//! A place that was taken, until it has its row: what a gateway must not do with it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use booking::snowflake::{Mint, Minted, WorkerId};
use booking::{Booking, BookingId, Clock, Digest, Nonce, State, SystemClock, UnixMs};
use clap::Parser;
use gateway::auth::{Role, Tokens};
use gateway::settings::Cli;
use inventory::Hold;
use ledger::epoch::{Closed, EpochRow};
use ledger::parked::Parked;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::clinic::{Clinic, Plan};

/// G2: a publish of which nothing is known may have come through.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_whose_publish_is_unknown_is_not_sold_again() -> Result<()> {
    let mut plan = Plan::of(&[1], 2);
    plan.has_proxies = true;
    let clinic = Clinic::open(plan).await?;
    let (rabbit, _) = clinic.lines.as_ref().context("it has proxies")?;
    rabbit.stall();
    let answer = clinic.book(0, clinic.slots[0], "k").await?;
    assert_eq!(answer.status(), (202, "pending"), "{answer:?}");
    let held = clinic.inventory.hold(clinic.partition, &wish_of(&clinic, 1).await?, now()).await?;
    assert_eq!(held, Hold::SoldOut);
    rabbit.heal();
    Ok(())
}

/// Y1: the queue may lose what it confirmed; the relay has nothing but the outbox to carry on from.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_confirmed_stands_in_the_outbox_until_it_has_its_row() -> Result<()> {
    let clinic = Clinic::open(Plan::of(&[1], 1)).await?;
    let answer = clinic.book(0, clinic.slots[0], "k").await?;
    assert_eq!(answer.status(), (202, "queued"), "{answer:?}");
    let id: BookingId = answer.id().parse()?;
    let found = clinic.inventory.find(id).await?.map(|booking| booking.id);
    assert_eq!(found, Some(id));
    clinic.start_worker(false);
    testkit::eventually("it is settled", Duration::from_secs(10), async || {
        clinic.inventory.find(id).await.ok()?.is_none().then_some(())
    })
    .await?;
    let rows = clinic.ledger.find_bookings(&[id]).await?;
    assert_eq!(rows.first().map(|row| row.state), Some(State::Booked));
    Ok(())
}

/// G4: Redis is in another epoch than the gateway thought, so a hold is tried twice.
#[tokio::test(flavor = "multi_thread")]
async fn one_id_is_offered_to_one_epoch_only() -> Result<()> {
    let clinic = Clinic::open(Plan::of(&[9], 1)).await?;
    let next = epoch(&clinic).await?.epoch.next();
    let mut heard = command(&clinic, "MONITOR").await?;
    let ledger = format!("{{p{}}}:ledger", clinic.partition);
    command(&clinic, &format!("HSET {ledger} e {next}")).await?;
    // Whatever it is answered: under that epoch nothing was granted.
    clinic.book(0, clinic.slots[0], "k").await?;
    let mut tries = Vec::new();
    while tries.len() < 2 {
        let mut line = String::new();
        let read = heard.read_line(&mut line);
        anyhow::ensure!(tokio::time::timeout(Duration::from_secs(5), read).await?? > 0, "no end");
        let words: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        // A hold: five keys, then epoch, place of the session, ordinal, patient, id.
        if words.first().is_some_and(|word| word.eq_ignore_ascii_case("evalsha"))
            && words.get(2) == Some(&"5")
        {
            tries.push((words[8].to_owned(), words[12].to_owned()));
        }
    }
    let epochs: BTreeSet<&str> = tries.iter().map(|(epoch, _)| epoch.as_str()).collect();
    let ids: BTreeSet<&str> = tries.iter().map(|(_, id)| id.as_str()).collect();
    assert_eq!((epochs.len(), ids.len()), (2, 2), "{tries:?}");
    Ok(())
}

/// P1: once it is not parked any more nothing keeps its epoch open, so it must have its row by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_parked_booking_that_is_replayed_is_not_late_for_the_end_of_its_epoch() -> Result<()> {
    let clinic = Clinic::open(Plan::of(&[9], 2)).await?;
    let (row, booking) = (epoch(&clinic).await?, wish_of(&clinic, 0).await?);
    let held = clinic.inventory.hold(clinic.partition, &booking, now()).await?;
    assert!(matches!(held, Hold::Held { .. }), "{held:?}");
    let parked = Parked::Booking(booking.clone());
    clinic.ledger.park(clinic.partition, "unexpected", "", &[parked]).await?;
    clinic
        .ledger
        .open_epoch(clinic.partition, row.epoch, &row.term, &Nonce::from_random(8))
        .await?;
    clinic.ledger.record_drained(clinic.partition, row.epoch).await?;
    let close = async || clinic.ledger.close_epoch(clinic.partition, row.epoch).await;
    assert_eq!(close().await?, Closed::NotYet);

    let parked = clinic.ledger.parked(None, 1).await?.pop().context("it is parked")?;
    let tokens = Tokens::load(&Cli::try_parse_from(&clinic.cli)?.settings.auth)?;
    let admin = tokens.issue(clinic.patients[1].0, Role::Admin, &[], now())?;
    let url = format!("http://{}/v1/admin/parked/{}/replay", clinic.address, parked.id);
    let replayed = reqwest::Client::new().post(url).bearer_auth(admin).send().await?;
    assert_eq!(replayed.status(), 200);
    assert_eq!(close().await?, Closed::Done);
    clinic.start_worker(false);
    let row = testkit::eventually("its row", Duration::from_secs(10), async || {
        clinic.ledger.find_bookings(&[booking.id]).await.ok()?.pop()
    })
    .await?;
    assert_eq!((row.state, row.reason), (State::Booked, None));
    Ok(())
}

/// What patient number `n` would hold in Redis, under the current epoch.
async fn wish_of(clinic: &Clinic, n: usize) -> Result<Booking> {
    let (slot, (account, patient, _)) = (clinic.slots[0], clinic.patients[n].clone());
    let until = now().plus_ms(60_000);
    let mint = Mint::new(WorkerId::new(255), UnixMs(0), until, Arc::new(SystemClock));
    let Minted::Id(id) = mint.mint(clinic.partition) else { anyhow::bail!("no id") };
    Ok(Booking {
        id,
        epoch: epoch(clinic).await?.epoch,
        slot,
        patient,
        account,
        key: Digest::of_key("by hand"),
        request: Digest::of_request(slot, patient),
        accepted_at: now(),
    })
}

async fn epoch(clinic: &Clinic) -> Result<EpochRow> {
    let rows = clinic.ledger.epochs().await?;
    rows.into_iter().rfind(|row| row.partition == clinic.partition).context("an epoch is open")
}

/// Sends one command to Redis, on a connection of its own.
async fn command(clinic: &Clinic, command: &str) -> Result<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect(("127.0.0.1", clinic.redis.port())).await?;
    stream.write_all(format!("{command}\r\n").as_bytes()).await?;
    let (mut answers, mut answer) = (BufReader::new(stream), String::new());
    answers.read_line(&mut answer).await?;
    anyhow::ensure!(!answer.starts_with('-'), "{command}: {answer}");
    Ok(answers)
}

fn now() -> UnixMs {
    SystemClock.now()
}
