//! The patients of a round: they keep coming while things break.

use std::sync::Arc;
use std::time::Duration;

use rush::prepare::Member;
use rush::tokens::Minter;
use tokio::task::JoinSet;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::visitor::{Ending, Visitor, Waiting};

/// How often somebody comes.
const COMES_EVERY: Duration = Duration::from_millis(40);
/// How many come at once to fill what is left.
const AT_ONCE: usize = 32;
/// How many of the patients come only in the end.
const KEPT: usize = 600;

/// A crowd on its way.
#[derive(Debug)]
pub(super) struct Crowd {
    waiting: Arc<Waiting>,
    coming: Option<tokio::task::JoinHandle<JoinSet<Ending>>>,
    stop: CancellationToken,
    /// Those who have not come yet.
    kept: Vec<Member>,
    /// How often some of them came.
    filled: u32,
    minter: Arc<Minter>,
    seed: u64,
}

impl Crowd {
    /// Lets them come until [`Crowd::stop_coming`].
    pub(super) fn start(
        waiting: Arc<Waiting>,
        mut members: Vec<Member>,
        minter: Arc<Minter>,
        seed: u64,
    ) -> Self {
        let kept = members.split_off(members.len().saturating_sub(KEPT));
        let stop = CancellationToken::new();
        let (shared, signer, stopped) = (Arc::clone(&waiting), Arc::clone(&minter), stop.clone());
        let coming = tokio::spawn(async move {
            let mut visits = JoinSet::new();
            let mut clock = interval(COMES_EVERY);
            for (nth, member) in members.into_iter().enumerate() {
                tokio::select! {
                    _ = clock.tick() => {}
                    () = stopped.cancelled() => break,
                }
                if let Some(visitor) = visitor(member, &signer, &shared, seed ^ nth as u64) {
                    visits.spawn(visitor.visit());
                }
            }
            visits
        });
        Self { waiting, coming: Some(coming), stop, kept, filled: 0, minter, seed }
    }

    pub(super) fn stop_coming(&self) {
        self.stop.cancel();
    }

    /// Waits until all visits have ended; returns how many without a final answer.
    pub(super) async fn ended(&mut self) -> usize {
        let Some(coming) = self.coming.take() else { return 0 };
        let Ok(mut visits) = coming.await else { return 1 };
        let mut unanswered = 0;
        while let Some(ending) = visits.join_next().await {
            // A visitor that broke got no final answer either.
            unanswered += usize::from(!matches!(ending, Ok(Ending::Answered)));
        }
        unanswered
    }

    /// Lets some of those who have not come yet ask for places, once each.
    pub(super) async fn fill(&mut self, places: usize) {
        self.filled += 1;
        let mut visits = JoinSet::new();
        let some = self.kept.len().min(places.clamp(1, AT_ONCE));
        for member in self.kept.drain(..some) {
            let seed = self.seed ^ u64::from(self.filled);
            if let Some(visitor) = visitor(member, &self.minter, &self.waiting, seed) {
                visits.spawn(visitor.take(self.filled));
            }
        }
        while let Some(visit) = visits.join_next().await {
            // Whoever got nothing comes again.
            self.kept.extend(visit.ok().flatten());
        }
    }
}

fn visitor(member: Member, minter: &Minter, waiting: &Arc<Waiting>, seed: u64) -> Option<Visitor> {
    let authorization = minter.mint(member).ok()?;
    Some(Visitor::new(member, authorization, Arc::clone(waiting), seed))
}
