//! Strangers who mean harm, at a gateway with its default settings, and a patient beside them.

mod attack;
mod beside;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use e2e::{Options, System};
use futures::future::join_all;

use self::attack::Attacker;
use self::beside::{Seen, beside};

/// What the door allows a head and a body by default: who is neither answered nor cut by then fails
/// the test.
const HEAD_MAX: Duration = Duration::from_secs(5);
const BODY_MAX: Duration = Duration::from_secs(10);
/// What a busy machine may take on top, for a cut as for the booking of a patient.
const SLACK: Duration = Duration::from_secs(3);

const IDLE_CONNECTIONS: usize = 10_000;
/// Files that the test and the gateway need for everything else, the slow clients among it.
const OTHER_FILES: usize = 2_000;
/// What an attack may cost: ten thousand connections take about 14 KiB each.
const MORE_MIB_MAX: u64 = 300;
const SLOW_CLIENTS: usize = 300;
/// How often each rude request is sent, and how many at once.
const ROUNDS: usize = 10;
const AT_ONCE: usize = 30;

fn options() -> Options {
    Options { places: 300, slots: 1, patients: 300, ..Options::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_who_say_nothing_or_drip_are_cut_and_a_patient_beside_them_books() -> Result<()> {
    let system = System::start(options()).await?;
    let attacker = Attacker::of(&system)?;
    // After the gateway has begun: that makes its own room.
    let (allowed, needed) = (service::open_files::raise_limit(), IDLE_CONNECTIONS + OTHER_FILES);
    assert!(
        allowed >= needed as u64,
        "{IDLE_CONNECTIONS} connections need {needed} open files and the hard limit is {allowed}: raise it \
         (`ulimit -Hn {needed}` as root, `--ulimit nofile={needed}` of a container) and try again"
    );
    let attacks = async {
        let slow = (0..SLOW_CLIENTS).map(|_| attacker.drip_head(HEAD_MAX + SLACK));
        let trickling = (0..SLOW_CLIENTS).map(|_| attacker.drip_body(BODY_MAX + SLACK));
        tokio::try_join!(
            attacker.idle(IDLE_CONNECTIONS, HEAD_MAX + SLACK),
            async { join_all(slow).await.into_iter().collect::<Result<Vec<_>>>() },
            async { join_all(trickling).await.into_iter().collect::<Result<Vec<_>>>() },
        )
    };
    let (outcome, seen) = beside(&system, attacks).await?;
    let (idled, heads, bodies) = outcome?;
    println!("{idled}");
    assert_eq!(idled.held, IDLE_CONNECTIONS, "{idled}");
    assert!(idled.shortest >= HEAD_MAX, "{idled}");
    println!("slow heads: {:?}; trickled bodies: {:?}", tally(heads), tally(bodies.clone()));
    assert!(bodies.iter().all(|said| said == "408"), "{bodies:?}");
    judge(&system, &seen)?;
    system.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn rude_requests_are_refused_and_a_patient_beside_them_books() -> Result<()> {
    let system = System::start(options()).await?;
    let attacker = Attacker::of(&system)?;
    for rude in attack::rude() {
        let (outcome, seen) = beside(&system, async {
            let mut said = Vec::new();
            for _ in 0..ROUNDS {
                let asked = (0..AT_ONCE).map(|_| attacker.send(&rude, BODY_MAX + SLACK));
                said.extend(join_all(asked).await.into_iter().collect::<Result<Vec<_>>>()?);
            }
            Ok::<_, anyhow::Error>(said)
        })
        .await?;
        let said = tally(outcome?);
        println!("{}: {said:?}", rude.name);
        let is_expected = |word: &String| word == "cut" || rude.answers.contains(&word.as_str());
        assert!(said.keys().all(is_expected), "{}: {said:?}", rude.name);
        judge(&system, &seen)?;
    }
    system.finish().await
}

fn tally(said: Vec<String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for word in said {
        *counts.entry(word).or_default() += 1;
    }
    counts
}

/// What must hold beside any attack.
fn judge(system: &System, seen: &Seen) -> Result<()> {
    println!("{seen}");
    assert!(seen.bookings > 0, "nobody booked beside it");
    assert!(seen.slowest < SLACK, "a booking took {:?}", seen.slowest);
    assert!(seen.peak_mib < seen.before_mib + MORE_MIB_MAX, "{seen}");
    let log = system.gateways[0].log()?;
    assert!(!log.contains("panicked"), "{log}");
    Ok(())
}
