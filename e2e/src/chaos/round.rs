//! One round: a release, a crowd, a few faults, rest, judgement.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use booking::{Clock as _, PatientId, SystemClock};
use rush::audit::Probe;
use rush::history::{History, Plan};
use rush::prepare::{self, Member};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::cluster::Cluster;
use super::crowd::Crowd;
use super::echo::Echo;
use super::fate::Fate;
use super::fault::{Kind, Strike};
use super::records::Records;
use super::recovery::{Scouts, Use};
use super::report::LostByFailover;
use super::strike::MISSED;
use super::verdict::{self, Verdict};
use super::visitor::Waiting;
use super::watch::{Reading, Seen, Watch};
use crate::program::Program;

/// Places the crowd comes for.
const PLACES: u32 = 300;
/// Places kept for those who measure.
const SCOUT_PLACES: u32 = 1_200;
/// Those who measure: one booking each.
const SCOUTS: u32 = 1_000;
/// Patients who may come.
const PATIENTS: u32 = 2_600;
/// How long the crowd keeps coming after the last fault.
const AFTERMATH: Duration = Duration::from_secs(2);
/// L1: when every promise is kept.
const FINAL_WITHIN: Duration = Duration::from_secs(30);
/// How long a worker may take to lead and to audit, at rest.
const AUDIT_WITHIN: Duration = Duration::from_secs(30);
/// When everything is sold and adds up, after the last fault.
const REST_WITHIN: Duration = Duration::from_secs(75);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a round came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    /// By name, ms.
    pub(super) recoveries: Vec<(&'static str, u64)>,
    pub(super) slow: Vec<String>,
    pub(super) faults: Vec<Kind>,
    /// What the workers found of themselves.
    pub(super) audits: Seen,
    /// What failovers lost.
    pub(super) lost_by_failover: LostByFailover,
    /// What was forgotten.
    fate: Fate,
}

/// A release with those who come for it.
struct Stage {
    plan: Plan,
    members: Vec<Member>,
    waiting: Arc<Waiting>,
}

/// A round on its way.
pub(super) struct Round<'a> {
    pub(super) cluster: &'a mut Cluster,
    pub(super) probe: &'a Probe,
    pub(super) number: u64,
    pub(super) seed: u64,
    pub(super) folder: &'a Path,
    pub(super) say: &'a dyn Fn(&str),
}

impl Round<'_> {
    /// Plays the round; its violations are in the outcome, and an error is the checker's own.
    pub(super) async fn play(mut self, strikes: &[Vec<Strike>]) -> Result<Outcome> {
        let (ending, deadline) = watch::channel(None);
        let stage = self.stage((PLACES, 2, 3), PATIENTS, "crowd", deadline.clone()).await?;
        let aside = self.stage((SCOUT_PLACES, 4, 1), SCOUTS, "scout", deadline).await?;
        let minter = Arc::clone(&self.cluster.minter);
        let mut scouts = Scouts::new(
            Arc::clone(&aside.waiting),
            aside.members.clone(),
            Arc::clone(&minter),
            self.cluster.target.partitions,
        );
        let mut crowd =
            Crowd::start(Arc::clone(&stage.waiting), stage.members.clone(), minter, self.seed);
        let mut outcome = Outcome::default();
        let mut violations = Vec::new();
        let programs = self.cluster.workers.iter().chain(&self.cluster.gateways);
        let watch = Watch::start(programs.map(Program::admin_port).collect());
        for strikes in strikes {
            self.strike(strikes, &watch, &mut scouts, &mut outcome, &mut violations).await?;
        }
        let calm_at = Instant::now();
        // These hold at any time, also before the rest.
        let broken = self.probe.ledger().audit().await.context("auditing while moving")?;
        violations.extend(broken.iter().map(|v| format!("{}: {}", v.invariant, v.detail)));
        sleep(AFTERMATH).await;
        ending.send_replace(Some(calm_at + FINAL_WITHIN));
        crowd.stop_coming();
        scouts.ended().await;
        violations.extend(self.all_final(&stage, &aside, calm_at, &mut outcome).await?);
        let unanswered = crowd.ended().await;
        if unanswered > 0 {
            violations.push(format!("L1: {unanswered} patients without a final answer"));
        }
        ending.send_replace(Some(calm_at + REST_WITHIN));
        violations.extend(self.sell_out(&stage, &mut crowd, calm_at + REST_WITHIN).await?);
        outcome.verdict = self.judge(&stage, &outcome.fate, calm_at).await?;
        let beside = self.judge(&aside, &outcome.fate, calm_at).await?;
        outcome.recoveries.push(("rest", ms(calm_at.elapsed())));
        violations.extend(self.metrics().await?);
        outcome.audits = watch.end().await?;
        outcome.lost_by_failover = std::mem::take(&mut self.cluster.lost_by_failover);
        violations.extend(outcome.audits.violations());
        let named = |name: &str, found: Vec<String>| {
            found.into_iter().map(|violation| format!("{name}{violation}")).collect::<Vec<_>>()
        };
        violations.extend(named("", std::mem::take(&mut outcome.verdict.violations)));
        violations.extend(named("measuring: ", beside.violations));
        outcome.verdict.lost += beside.lost;
        outcome.verdict.duplicated += beside.duplicated;
        outcome.verdict.unexpected += beside.unexpected;
        outcome.verdict.oversold += beside.oversold;
        outcome.verdict.leaked += beside.leaked;
        outcome.verdict.hasty_refusals += beside.hasty_refusals;
        outcome.verdict.forgotten += beside.forgotten;
        outcome.verdict.violations = violations;
        if !outcome.verdict.violations.is_empty() {
            self.keep(&[&stage, &aside], &outcome.fate)?;
        }
        Ok(outcome)
    }

    async fn stage(
        &self,
        (places, sessions, slots): (u32, u32, u32),
        patients: u32,
        name: &str,
        deadline: watch::Receiver<Option<Instant>>,
    ) -> Result<Stage> {
        let members = prepare::gather(self.probe.ledger(), patients).await?;
        let what = self.cluster.preparation(places, sessions, slots);
        let plan = prepare::release(&self.cluster.doors[0], &what).await?;
        let waiting = Arc::new(Waiting {
            doors: self.cluster.doors.clone(),
            slots: plan.offers.iter().map(|offer| offer.slot).collect(),
            records: Records::default(),
            run: format!("{name}-{}", self.number),
            deadline,
        });
        Ok(Stage { plan, members, waiting })
    }

    /// Does what was drawn, undoes it, and measures the way back if only one thing was done.
    async fn strike(
        &mut self,
        strikes: &[Strike],
        watch: &Watch,
        scouts: &mut Scouts,
        outcome: &mut Outcome,
        violations: &mut Vec<String>,
    ) -> Result<()> {
        let Some(first) = strikes.first() else { return Ok(()) };
        let names: Vec<_> = strikes.iter().map(|strike| strike.kind.to_string()).collect();
        let names = names.join(" + ");
        sleep(first.after).await;
        (self.say)(&format!("{names} for {:.1} s", first.lasts.as_secs_f64()));
        let mut echoes = Vec::new();
        watch.set_struck(true);
        for strike in strikes {
            outcome.faults.push(strike.kind);
            if strike.kind == Kind::Duplicates {
                echoes.push(tokio::spawn(self.echo(strike)?.run(first.lasts)));
            }
            let from = SystemClock.now();
            let writes = if strike.kind.misses_writes() { MISSED } else { Duration::ZERO };
            // Boxed, or the whole round is one type too deep for the compiler.
            let inflicting = Box::pin(self.cluster.inflict(strike));
            let (inflicted, ()) = tokio::join!(inflicting, scouts.press(writes));
            inflicted.with_context(|| format!("{}", strike.kind))?;
            outcome.fate.note_struck(strike, from);
        }
        let struck_at = Instant::now();
        let measured = Use::of(first.kind.part()).filter(|_| strikes.len() == 1);
        let (at_once, after) = measured.into_iter().partition(|_| first.kind.is_momentary());
        self.measure(first.kind, at_once, scouts, outcome, violations).await;
        sleep(first.lasts.saturating_sub(struck_at.elapsed())).await;
        for strike in strikes {
            let healed_from = SystemClock.now();
            let healing = self.cluster.heal(strike).await;
            healing.with_context(|| format!("the end of {}", strike.kind))?;
            outcome.fate.note_healed(strike, healed_from);
        }
        watch.set_struck(false);
        for echo in echoes {
            let count = echo.await.context("publishing again")?;
            (self.say)(&format!("{count} bookings were published again"));
        }
        self.measure(first.kind, after, scouts, outcome, violations).await;
        violations.extend(self.cluster.ended());
        Ok(())
    }

    /// L2: how soon a part that is back is of use again.
    async fn measure(
        &self,
        kind: Kind,
        what: Vec<Use>,
        scouts: &mut Scouts,
        outcome: &mut Outcome,
        violations: &mut Vec<String>,
    ) {
        for what in what {
            let took = scouts.measure(what).await;
            outcome.recoveries.push((what.name(), ms(took)));
            let text = format!("{} {} ms after {kind}", what.name(), ms(took));
            (self.say)(&text);
            if took >= what.unbearable() {
                violations.push(format!("L2: {text}"));
            } else if took > what.promised() {
                outcome.slow.push(format!("round {}: {text}", self.number));
            }
        }
    }

    fn echo(&self, strike: &Strike) -> Result<Echo> {
        let seed = self.seed ^ strike.which as u64;
        let redis = self.cluster.target.redis_url.clone();
        Echo::new(redis, self.probe.ledger().clone(), self.cluster.queues(), seed)
    }

    /// L1: waits until every promise is kept.
    async fn all_final(
        &self,
        stage: &Stage,
        aside: &Stage,
        calm_at: Instant,
        outcome: &mut Outcome,
    ) -> Result<Option<String>> {
        loop {
            let mut promised = stage.waiting.records.promised();
            promised.extend(aside.waiting.records.promised());
            let ids: Vec<_> = promised.into_iter().collect();
            let rows = self.probe.ledger().find_bookings(&ids).await?;
            let missing = ids.len() - rows.len();
            if missing == 0 {
                outcome.recoveries.push(("final", ms(calm_at.elapsed())));
                return Ok(None);
            }
            if calm_at.elapsed() > FINAL_WITHIN {
                let text = format!("L1: {missing} of {} promises are not final", ids.len());
                return Ok(Some(text));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// I6: lets those without a place ask until all are sold.
    async fn sell_out(
        &self,
        stage: &Stage,
        crowd: &mut Crowd,
        until: Instant,
    ) -> Result<Option<String>> {
        loop {
            let release = self.probe.ledger().release(stage.plan.release).await?;
            let counts = release.context("the release")?.counts;
            if counts.booked == counts.capacity {
                return Ok(None);
            }
            if Instant::now() >= until {
                return Ok(Some(format!("I6: places stay unsold: {counts:?}")));
            }
            let unsold = usize::try_from(counts.capacity - counts.booked)?;
            // Whoever breaks here shows in the counts.
            let _ = timeout_at(until, crowd.fill(unsold)).await;
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits for rest, then judges; a judgement that finds something is made again until time is up.
    async fn judge(&self, stage: &Stage, fate: &Fate, calm_at: Instant) -> Result<Verdict> {
        let until = calm_at + REST_WITHIN;
        loop {
            let stillness =
                self.probe.settle(until.saturating_duration_since(Instant::now())).await;
            let history = stage.history(fate);
            let evidence = self.probe.evidence(&stage.plan, &history, stillness).await?;
            let cancels = stage.waiting.records.cancels();
            let verdict = verdict::decide(&stage.plan, &history, &cancels, fate, &evidence);
            if verdict.violations.is_empty() || Instant::now() >= until {
                return Ok(verdict);
            }
            // Between the looks at PostgreSQL and at Redis a place may have moved.
            sleep(LOOK_EVERY).await;
        }
    }

    /// What the running system found itself. Only the worker that leads audits; after it took the lead
    /// its first audit has yet to come.
    async fn metrics(&self) -> Result<Vec<String>> {
        let until = Instant::now() + AUDIT_WITHIN;
        loop {
            let (mut found, mut has_audited) = (Vec::new(), false);
            for worker in &self.cluster.workers {
                let reading = Reading::of(&worker.metrics().await?);
                has_audited |= reading.audited_at.is_some();
                found.extend(reading.broken);
            }
            if has_audited {
                return Ok(found);
            }
            if Instant::now() >= until {
                return Ok(vec!["no worker has audited".to_owned()]);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Writes down what was asked and answered.
    fn keep(&self, stages: &[&Stage], fate: &Fate) -> Result<()> {
        for stage in stages {
            let name = format!("history-{}.jsonl", stage.waiting.run);
            stage.history(fate).write(&stage.plan, &self.folder.join(name))?;
        }
        Ok(())
    }
}

impl Stage {
    fn history(&self, fate: &Fate) -> History {
        let crowd: Vec<PatientId> = self.members.iter().map(|member| member.patient).collect();
        self.waiting.records.history(&crowd, fate)
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
