//! Doing a fault to the system, and undoing it.

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::Proxy;
use tokio::time::sleep;

use super::cluster::{Cluster, DISTORTIONS, PROGRAMS};
use super::fault::{Kind, Strike};

/// How long the replica misses writes before a failover.
pub(super) const MISSED: Duration = Duration::from_millis(600);
/// How long answers are held back before the connections end without them.
const HELD_BACK: Duration = Duration::from_millis(300);
/// Latency of a slow network, each way.
const LATENCY: Duration = Duration::from_millis(60);

impl Cluster {
    /// Begins a fault. What is momentary is over when this returns.
    pub(super) async fn inflict(&mut self, strike: &Strike) -> Result<()> {
        let program = strike.which % PROGRAMS;
        match strike.kind {
            Kind::GatewayKill => self.gateways[program].kill(),
            Kind::GatewayPause => self.gateways[program].pause(),
            Kind::WorkerKill => self.workers[program].kill(),
            Kind::WorkerPause => self.workers[program].pause(),
            Kind::RedisKill | Kind::RedisEmpty => self.redis.kill().await?,
            Kind::RedisPause => self.redis.primary().pause(),
            Kind::RedisFlush => self.redis.command("FLUSHALL").await?,
            Kind::RedisScriptFlush => self.redis.command("SCRIPT FLUSH").await?,
            Kind::RedisFailover => self.fail_over().await?,
            Kind::RedisTwoPrimaries => {
                self.miss_writes().await?;
                self.redis.promote().await?;
                let stays = strike.which % self.edges.len();
                self.redirect((0..self.edges.len()).filter(|number| *number != stays));
            }
            Kind::RedisFailback => {
                self.redis.catch_up().await?;
                self.redis.promote().await?;
                self.redirect(0..self.edges.len());
                self.redis.reunite().await?;
            }
            Kind::GatewayPastFailover => {
                self.gateways[program].pause();
                self.fail_over().await?;
            }
            Kind::RabbitKill => self.rabbit.kill().await?,
            Kind::RabbitPause => self.rabbit.pause(),
            Kind::RabbitAlarm => self.set_memory_limit("0.0000001").await?,
            Kind::RabbitQueueDeleted => {
                let partition = strike.which % usize::from(self.target.partitions.get());
                let queue = format!("{}.bookings.{partition}", self.target.queue_prefix);
                self.rabbit.ctl(&["delete_queue", &queue]).await?;
            }
            Kind::RabbitCloses => {
                self.rabbit.ctl(&["close_all_connections", "chaos"]).await?;
            }
            Kind::PostgresRestart => self.postgres.kill().await?,
            Kind::PostgresCrash => self.postgres.crash().await?,
            Kind::PostgresPause => self.postgres.pause(),
            Kind::PostgresAnswersLost => {
                let proxies = self.edges.iter().map(|edges| &edges.postgres);
                lose_answers(&proxies.collect::<Vec<_>>()).await;
            }
            Kind::NetSlow => self.on_some_edges(strike, |edge| edge.slow(LATENCY)),
            Kind::NetReset => self.on_some_edges(strike, Proxy::reset),
            Kind::NetHalfOpen => self.on_some_edges(strike, Proxy::lose),
            Kind::NetSliced => self.on_some_edges(strike, Proxy::slice),
            Kind::NetCut => self.on_some_edges(strike, Proxy::cut),
            Kind::NetStall => self.on_some_edges(strike, Proxy::stall),
            Kind::NetAnswersLost => lose_answers(&self.some_edges(strike)).await,
            // Done beside the crowd, see `echo`.
            Kind::Duplicates => {}
            Kind::ClockBack => self.set_clock(strike, -clock_step_ms(strike))?,
            Kind::ClockAhead => self.set_clock(strike, clock_step_ms(strike))?,
        }
        Ok(())
    }

    /// Ends a fault; returns when the part answers again.
    pub(super) async fn heal(&mut self, strike: &Strike) -> Result<()> {
        let program = strike.which % PROGRAMS;
        match strike.kind {
            Kind::GatewayKill => self.gateways[program].start_again()?,
            Kind::GatewayPause => self.gateways[program].resume(),
            Kind::WorkerKill => self.workers[program].start_again()?,
            Kind::WorkerPause => self.workers[program].resume(),
            Kind::RedisKill => self.redis.restart().await?,
            Kind::RedisEmpty => {
                self.redis.forget()?;
                self.redis.restart().await?;
            }
            Kind::RedisPause => self.redis.primary().resume(),
            Kind::RedisFailover => self.redis.reunite().await?,
            Kind::RedisTwoPrimaries => {
                self.redirect(0..self.edges.len());
                self.redis.reunite().await?;
            }
            Kind::RedisFailback => {
                self.redis.catch_up().await?;
                self.redis.promote().await?;
                self.redirect(0..self.edges.len());
                self.redis.reunite().await?;
            }
            Kind::GatewayPastFailover => {
                self.gateways[program].resume();
                self.redis.reunite().await?;
            }
            Kind::RabbitKill => self.rabbit.restart().await?,
            Kind::RabbitPause => self.rabbit.resume(),
            Kind::RabbitAlarm => self.set_memory_limit("0.4").await?,
            Kind::PostgresRestart | Kind::PostgresCrash => self.postgres.restart().await?,
            Kind::PostgresPause => self.postgres.resume(),
            Kind::PostgresAnswersLost => {
                self.edges.iter().for_each(|edges| edges.postgres.heal());
            }
            Kind::NetSlow
            | Kind::NetReset
            | Kind::NetHalfOpen
            | Kind::NetSliced
            | Kind::NetCut
            | Kind::NetStall
            | Kind::NetAnswersLost => self.on_some_edges(strike, Proxy::heal),
            Kind::RedisFlush
            | Kind::RedisScriptFlush
            | Kind::RabbitQueueDeleted
            | Kind::RabbitCloses
            | Kind::Duplicates => {}
            Kind::ClockBack | Kind::ClockAhead => self.set_clock(strike, 0)?,
        }
        Ok(())
    }

    /// Sets the clock of a gateway or a worker wrong by so much.
    fn set_clock(&self, strike: &Strike, offset_ms: i64) -> Result<()> {
        let programs: Vec<_> = self.gateways.iter().chain(&self.workers).collect();
        let program = programs[strike.which % programs.len()];
        program.arm(&format!("{DISTORTIONS};clock.offset_ms={offset_ms}"))
    }

    /// The primary dies, and the replica that takes its place has missed its last writes.
    async fn fail_over(&mut self) -> Result<()> {
        self.miss_writes().await?;
        self.redis.kill().await?;
        self.redis.promote().await?;
        self.redirect(0..self.edges.len());
        Ok(())
    }

    /// The replica is cut off and misses writes; counts what it lacks.
    async fn miss_writes(&mut self) -> Result<()> {
        self.redis.detach();
        sleep(MISSED).await;
        let lack = self.redis.lack(self.target.partitions).await?;
        self.lost_by_failover.add(lack);
        Ok(())
    }

    async fn set_memory_limit(&self, fraction: &str) -> Result<()> {
        let said = self.rabbit.ctl(&["set_vm_memory_high_watermark", fraction]).await?;
        ensure!(!said.contains("rror"), "{said}");
        Ok(())
    }

    /// A third of all edges, another third for each strike.
    fn some_edges(&self, strike: &Strike) -> Vec<&Proxy> {
        let edges = self.proxies().into_iter().enumerate();
        edges
            .filter(|(nth, _)| (nth + strike.which).is_multiple_of(3))
            .map(|(_, edge)| edge)
            .collect()
    }

    fn on_some_edges(&self, strike: &Strike, act: impl Fn(&Proxy)) {
        self.some_edges(strike).into_iter().for_each(act);
    }
}

/// By how much a clock steps: 1 to 20 s. A clock that went back is waited out, and patients must have
/// their final answers 30 s after the last fault; the crowd's tokens are good from 30 s ago.
fn clock_step_ms(strike: &Strike) -> i64 {
    let steps = i64::try_from(strike.which % 96).unwrap_or(0);
    1_000 + steps * 200
}

/// Requests arrive and are done, and nobody hears of it.
async fn lose_answers(edges: &[&Proxy]) {
    for edge in edges {
        edge.mute();
    }
    sleep(HELD_BACK).await;
    for edge in edges {
        edge.cut();
    }
}
