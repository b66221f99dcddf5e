//! What makes a program pass a point, and what must have become of it afterwards.

use anyhow::{Context as _, Result, ensure};
use booking::{BookingId, Epoch};
use e2e::{SOON, System};
use rush::answer::{Answer, Status};
use testkit::eventually;

use super::parked;

/// What happens at the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Provocation {
    /// A patient books.
    Booking,
    /// Patients book, and the worker takes one booking at a time.
    Bookings,
    /// A patient books at a gateway that dies before it publishes: the relay must.
    HeldAlone,
    /// A patient books, and telling Redis of the row hangs: the relay must.
    Unsettled,
    /// A patient cancels.
    Cancel,
    /// Redis forgets everything.
    Flush,
    /// An admin closes the release.
    Close,
    /// An admin closes the release, which was put on offer again in between.
    CloseAgain,
    /// An admin replays a parked booking.
    Replay,
}

/// The patients who act: one before each death.
const ACTORS: usize = 2;
/// Whoever has a place before anything happens.
const EARLY: usize = 5;

/// What was done so far, to be judged at the end.
#[derive(Debug)]
pub(super) struct Scene {
    provocation: Provocation,
    /// Bookings that are cancelled or parked.
    ids: Vec<BookingId>,
    early: BookingId,
    before: Epoch,
}

impl Provocation {
    /// More settings of the programs.
    pub(super) fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Bookings => &[("SLOTRUSH_BATCH_BOOKINGS_MAX", "1")],
            _ => &[],
        }
    }

    /// What else is to happen in the program that dies.
    pub(super) fn also(self) -> &'static str {
        match self {
            // Each time: the relay may have published the booking once more before its row was there, and
            // who persists that copy would tell Redis as well.
            Self::Unsettled => "worker.settling=pause(60000)*each",
            _ => "",
        }
    }

    /// In the words of the matrix.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Booking => "a patient books",
            Self::Bookings => "patients book",
            Self::HeldAlone => "a patient books, and the gateway dies before it publishes",
            Self::Unsettled => "a patient books, and Redis is not told of the row",
            Self::Cancel => "a patient cancels",
            Self::Flush => "Redis is emptied",
            Self::Close | Self::CloseAgain => "a release is closed",
            Self::Replay => "a parked booking is replayed",
        }
    }
}

impl Scene {
    /// Brings about what there must be before.
    pub(super) async fn prepare(system: &mut System, provocation: Provocation) -> Result<Self> {
        let slot = system.plan.offers[0].slot;
        let early = system.person(EARLY, 0)?.get(slot, "early").await?;
        let mut ids = Vec::new();
        for actor in 0..ACTORS {
            match provocation {
                Provocation::Cancel => {
                    ids.push(system.person(actor, 0)?.get(slot, "mine").await?);
                }
                Provocation::Replay => ids.push(parked::park(system, actor).await?),
                _ => {}
            }
        }
        let before = epoch(system).await?;
        Ok(Self { provocation, ids, early, before })
    }

    /// Does it for the `nth` time. Nobody need be there to hear the answer.
    pub(super) async fn act(&mut self, system: &mut System, nth: usize) -> Result<()> {
        let slot = system.plan.offers[0].slot;
        let person = system.person(nth, 0)?;
        match self.provocation {
            Provocation::Booking | Provocation::Unsettled => {
                person.book(slot, "mine").await;
            }
            Provocation::Bookings => {
                person.book(slot, "mine").await;
                system.person(nth + ACTORS, 0)?.book(slot, "mine").await;
            }
            Provocation::HeldAlone => {
                system.gateways[0].arm("gateway.held=kill")?;
                person.book(slot, "mine").await;
                system.gateways[0].died_at("gateway.held", nth + 1).await?;
                system.gateways[0].arm("")?;
                system.gateways[0].start_again()?;
                system.gateways[0].ready().await?;
            }
            // An answer that does not come is no failure of this.
            Provocation::Cancel => drop(person.cancel(self.ids[nth]).await),
            Provocation::Flush => system.flush_redis().await?,
            Provocation::Close if nth > 0 => {}
            Provocation::CloseAgain if nth > 0 => {
                system.offer_again().await?;
                // What was granted nothing is not frozen.
                eventually("quota", SOON, || async {
                    let counts = system.counts().await.ok()?;
                    (counts.escrowed > 0).then_some(())
                })
                .await?;
                system.change_release("close").await?;
            }
            Provocation::Close | Provocation::CloseAgain => {
                system.change_release("close").await?;
            }
            Provocation::Replay => drop(parked::replay(system, self.ids[nth]).await),
        }
        Ok(())
    }

    /// Judges what became of it; returns that in words.
    pub(super) async fn judge(&self, system: &mut System) -> Result<String> {
        if !matches!(self.provocation, Provocation::Close | Provocation::CloseAgain) {
            // By itself: somebody who asks again would push on what lies about. Places that are
            // withdrawn add up again when they are back on offer.
            system.settle_and_audit().await?;
        }
        let slot = system.plan.offers[0].slot;
        let early = system.person(EARLY, 0)?.book(slot, "early").await;
        let known = Answer::Booking { id: self.early, status: Status::Booked, reason: None };
        ensure!(early == known, "who had a place before hears {early:?}");
        match self.provocation {
            Provocation::Booking
            | Provocation::Bookings
            | Provocation::HeldAlone
            | Provocation::Unsettled => self.judge_bookings(system).await,
            Provocation::Cancel => self.judge_cancels(system).await,
            Provocation::Flush => self.judge_epochs(system).await,
            Provocation::Close | Provocation::CloseAgain => self.judge_close(system).await,
            Provocation::Replay => parked::judge(system, &self.ids).await,
        }
    }

    /// Whoever asked, and asks again under the same key, has a place.
    async fn judge_bookings(&self, system: &System) -> Result<String> {
        let slot = system.plan.offers[0].slot;
        let more = if self.provocation == Provocation::Bookings { ACTORS } else { 0 };
        let asked = ACTORS + more;
        for number in 0..asked {
            let person = system.person(number, 0)?;
            let id = person.book_at_last(slot, "mine").await?;
            let status = person.follow(id).await?;
            ensure!(status == Status::Booked, "patient {number} is {}", status.as_str());
        }
        Ok(format!("{asked} of {asked} who asked have one place each; all others are sold"))
    }

    /// Whoever cancelled is cancelled, and may book again under another key.
    async fn judge_cancels(&self, system: &System) -> Result<String> {
        let slot = system.plan.offers[0].slot;
        for (number, id) in self.ids.iter().enumerate() {
            let person = system.person(number, 0)?;
            let status = person.follow(*id).await?;
            ensure!(status == Status::Cancelled, "patient {number} is {}", status.as_str());
            let again = person.book_at_last(slot, "again").await?;
            let status = person.follow(again).await?;
            ensure!(status == Status::Booked, "patient {number} is again {}", status.as_str());
        }
        Ok("2 of 2 are cancelled and book again; all others are sold".to_owned())
    }

    /// There is a new epoch, and every older one is closed.
    async fn judge_epochs(&self, system: &System) -> Result<String> {
        eventually("the old epochs' end", SOON, || async {
            let stillness = system.stillness().await;
            let now = epoch(system).await.ok()?;
            (stillness.restless().is_empty() && now > self.before).then_some(())
        })
        .await?;
        Ok("a new epoch sells, the old ones are closed; every place is sold once".to_owned())
    }

    /// What was not sold is back, and can be sold under another release.
    async fn judge_close(&self, system: &mut System) -> Result<String> {
        eventually("the unsold places back", SOON, || async {
            let counts = system.counts().await.ok()?;
            (counts.escrowed == 0).then_some(())
        })
        .await?;
        system.offer_again().await?;
        Ok("the unsold places came back and are sold by the next release".to_owned())
    }
}

/// The current epoch of the partition where the places are.
async fn epoch(system: &System) -> Result<Epoch> {
    let partition = system.partition();
    let epochs = system.ledger().epochs().await?;
    let mine = epochs.iter().filter(|row| row.partition == partition);
    mine.map(|row| row.epoch).max().context("an epoch")
}
