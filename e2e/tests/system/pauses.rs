//! A gateway that stands still past a whole failover, and bookings that wait for their end.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use booking::{BookingId, Digest, Reason};
use e2e::{Options, SOON, System};
use ledger::epoch::EpochState;
use rush::answer::{Answer, Status};
use testkit::{Signal, eventually};

/// A pending booking lapses after 5 s at the earliest.
const LAPSES_WITHIN: Duration = Duration::from_secs(15);
const LAPSES_AFTER: Duration = Duration::from_secs(5);

/// G3, the shortest trace: held, then still until the epoch is closed; nobody is told "queued".
#[tokio::test]
async fn a_gateway_that_slept_from_hold_to_publish_past_a_failover_promises_nothing() -> Result<()>
{
    let answer = sleep_past_a_failover("gateway.held", Status::Rejected).await?;
    ensure!(answer == Status::Pending, "{answer:?}");
    Ok(())
}

/// The same between the confirm and the check: the booking is in time, and the check can't know.
#[tokio::test]
async fn a_gateway_that_slept_from_confirm_to_check_past_a_failover_promises_nothing() -> Result<()>
{
    let answer = sleep_past_a_failover("gateway.confirmed", Status::Booked).await?;
    ensure!(answer == Status::Pending, "{answer:?}");
    Ok(())
}

/// Returns what a patient heard whose gateway stood still at `point` while Redis was lost and its
/// epoch closed; in the end the booking must be `end`.
async fn sleep_past_a_failover(point: &str, end: Status) -> Result<Status> {
    // So long that the answer is not "pending" for another reason.
    let settings =
        &[("SLOTRUSH_CONFIRM_TIMEOUT_MS", "25000"), ("SLOTRUSH_EPOCH_CHECK_TIMEOUT_MS", "5000")];
    let mut system = System::start(Options { settings, ..Options::default() }).await?;
    let slot = system.plan.offers[0].slot;
    system.gateways[0].arm(&format!("{point}=stop"))?;
    let person = system.person(0, 0)?;
    let asking = tokio::spawn({
        let person = person.clone();
        async move { person.book(slot, "mine").await }
    });
    eventually("a gateway that stands still", SOON, || async {
        (system.gateways[0].reached(point).ok()? == 1).then_some(())
    })
    .await?;
    let partition = system.partition();
    let before = system.ledger().epochs().await?;
    let before = before.iter().filter(|row| row.partition == partition).map(|row| row.epoch).max();
    system.flush_redis().await?;
    eventually("the end of the old epoch", SOON, || async {
        let epochs = system.ledger().epochs().await.ok()?;
        let mut mine = epochs.iter().filter(|row| row.partition == partition);
        mine.all(|row| row.state == EpochState::Open && Some(row.epoch) > before).then_some(())
    })
    .await?;
    ensure!(!asking.is_finished(), "it answered while it slept");
    system.gateways[0].signal(Signal::Cont);
    let answer = asking.await?;
    let Answer::Booking { id, status, .. } = answer else { bail!("no booking: {answer:?}") };
    let follows = person.follow(id).await?;
    ensure!(follows == end, "{follows:?}");
    system.finish().await?;
    Ok(status)
}

/// S1: held, never published, and then Redis forgets it.
#[tokio::test]
async fn a_pending_booking_that_nothing_holds_lapses_and_a_late_copy_changes_nothing() -> Result<()>
{
    let mut system = System::start(Options::default()).await?;
    let slot = system.plan.offers[0].slot;
    let person = system.person(0, 0)?;
    // The copy comes when all is over.
    system.gateways[0].arm("gateway.held=pause(14000)")?;
    let asking = tokio::spawn({
        let person = person.clone();
        async move { person.book(slot, "mine").await }
    });
    eventually("a place held", SOON, || async {
        (system.gateways[0].reached("gateway.held").ok()? == 1).then_some(())
    })
    .await?;
    system.flush_redis().await?;
    let id = pending(&system, 0).await?;
    let lapsed = eventually("the lapse", LAPSES_WITHIN, || async {
        match person.status(id).await {
            Answer::Booking { status: Status::Rejected, reason, .. } => Some(reason),
            _ => None,
        }
    });
    ensure!(lapsed.await? == Some(Reason::Lapsed));
    ensure!(!asking.is_finished(), "the copy came before the lapse");
    person.get(slot, "again").await?;
    asking.await?;
    system.settle_and_audit().await?;
    ensure!(person.follow(id).await? == Status::Rejected);
    system.finish().await
}

/// S1: what is in the queue does not lapse only because Redis is gone.
#[tokio::test]
async fn a_pending_booking_does_not_lapse_before_its_epoch_is_closed() -> Result<()> {
    let mut system = System::start(Options::default()).await?;
    let slot = system.plan.offers[0].slot;
    let person = system.person(0, 0)?;
    system.workers[0].kill();
    // Confirmed, and so long unchecked that the patient hears "pending".
    system.gateways[0].arm("gateway.confirmed=pause(60000)")?;
    let answer = person.book(slot, "mine").await;
    let Answer::Booking { id, status: Status::Pending, .. } = answer else {
        bail!("not pending: {answer:?}")
    };
    let asked_at = id.minted_at();
    system.flush_redis().await?;
    let waited = eventually("its time", SOON, || async {
        let answer = person.status(id).await;
        let is_pending = matches!(answer, Answer::Booking { status: Status::Pending, .. });
        if !is_pending {
            return Some(Err(answer));
        }
        let event = system.events().last()?.answered_at;
        let waited_ms = event.since(asked_at);
        (u128::from(waited_ms) > 2 * LAPSES_AFTER.as_millis()).then_some(Ok(()))
    });
    if let Err(answer) = waited.await? {
        bail!("it did not stay pending: {answer:?}");
    }
    system.workers[0].start_again()?;
    ensure!(person.follow(id).await? == Status::Booked);
    system.finish().await
}

/// The answer to a commit is lost; the message is persisted again, and that changes nothing.
#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_repeated_and_books_once() -> Result<()> {
    let options = Options { has_fragile_network: true, ..Options::default() };
    let system = System::start(options).await?;
    let slot = system.plan.offers[0].slot;
    let person = system.person(0, 0)?;
    let network = &system.networks()?.workers;
    // The key's digest goes in the statement that persists.
    network.mute_at(Digest::of_key("mine").as_bytes());
    let answer = person.book(slot, "mine").await;
    let Answer::Booking { id, .. } = answer else { bail!("no place: {answer:?}") };
    eventually("the commit", SOON, || async {
        system.ledger().find_bookings(&[id]).await.ok()?.pop()
    })
    .await?;
    ensure!(network.is_mute(), "the answer was not held back");
    network.cut();
    network.heal();
    ensure!(person.follow(id).await? == Status::Booked);
    system.settle_and_audit().await?;
    let metrics = system.workers[0].metrics().await?;
    let (tried, answered) = (
        count(&metrics, "slotrush_persist_seconds")?,
        count(&metrics, "slotrush_persist_batch_size")?,
    );
    ensure!(tried > answered, "no answer was lost: {tried} tries, {answered} answers");
    eventually("the outbox to be seen empty, in every partition", SOON, || async {
        let metrics = system.workers[0].metrics().await.ok()?;
        let mut ages = metrics.lines().filter_map(|line| line.strip_prefix(OLDEST)).peekable();
        (ages.peek().is_some() && ages.all(|age| age.ends_with(" 0"))).then_some(())
    })
    .await?;
    system.finish().await
}

/// How long the oldest entry of a partition's outbox waits.
const OLDEST: &str = "slotrush_outbox_oldest_seconds{";

/// How often a histogram of the metrics was recorded.
fn count(metrics: &str, name: &str) -> Result<u64> {
    let name = format!("{name}_count ");
    let found = metrics.lines().find_map(|line| line.strip_prefix(&name));
    Ok(found.with_context(|| name.clone())?.parse()?)
}

/// Asks again under the same key until that is answered; returns the pending booking.
async fn pending(system: &System, number: usize) -> Result<BookingId> {
    let person = system.person(number, 0)?;
    let slot = system.plan.offers[0].slot;
    eventually("a pending booking", SOON, || async {
        match person.book(slot, "mine").await {
            Answer::Booking { id, status: Status::Pending, .. } => Some(id),
            _ => None,
        }
    })
    .await
}
