//! `cargo xtask demo`: a release from nothing, rushed for, killed at if asked, and audited.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use testkit::{Postgres, unique};

use crate::command;
use crate::interrupt::unless_interrupted;
use crate::stack::{Options, Stack};
use crate::workspace::{private_folder, relative};

/// How often the rush's counter is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What is killed, and at which share of first answers, in %. Some patients come early: the first
/// kill meets the gateway while it sells, the second the worker while it persists.
const KILLS: [(u32, &str); 2] = [(12, "gateway-1"), (30, "worker-1")];

pub(crate) const ADMIN: &str = "admin";

/// Options of the demonstration.
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// Patients, each with an account of their own
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    patients: u32,
    /// Places they rush for
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    places: u32,
    /// Print the report as one JSON object on the last line
    #[arg(long)]
    json: bool,
    /// Leave everything running and print how to try it; `cargo xtask down` ends it
    #[arg(long)]
    keep: bool,
    /// Kill the gateway and the worker with SIGKILL during the rush and start them again
    #[arg(long)]
    kill: bool,
    /// Everything after `--` goes to `rush run`
    #[arg(last = true)]
    rush: Vec<String>,
}

/// Says what is being done, and when.
pub(crate) struct Stages(Instant);

impl Stages {
    /// Begins counting.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// One line, with the time since the start.
    pub(crate) fn say(&self, what: &str) {
        println!("[{:>6.1} s] {what}", self.0.elapsed().as_secs_f64());
    }
}

/// Where the demonstration lives.
fn folder() -> PathBuf {
    private_folder().join("demo")
}

/// Shows it.
pub(crate) async fn run(demo: Demo) -> Result<()> {
    let stages = Stages::start();
    stages.say("building gateway, worker and crowd, optimised (minutes)");
    unless_interrupted(command::build_programs(true)).await?;
    forget_the_last().await?;
    stages.say("starting private Redis, RabbitMQ, PostgreSQL, gateway and worker");
    let options = Options {
        release: true,
        use_settings: false,
        // Every patient comes from an address of their own, as the crowd's header says.
        environment: vec![("SLOTRUSH_TRUSTED_PROXIES".to_owned(), "127.0.0.0/8".to_owned())],
        ..Options::default()
    };
    let mut stack = Stack::start(&folder(), options).await?;
    let result = unless_interrupted(show(&demo, &mut stack, &stages)).await;
    if demo.keep && result.is_ok() {
        stages.say("everything is left running; `cargo xtask down` ends it");
    } else {
        stages.say("stopping everything");
        stack.stop().await?;
    }
    let is_clean = result?;
    if demo.json {
        println!("{}", fs::read_to_string(report_file())?.trim_end());
    }
    if !is_clean {
        bail!("the report above names what does not hold; logs are in {}", relative(&folder()));
    }
    Ok(())
}

/// Ends a demonstration that was kept. Says what it ended.
async fn stop() -> Result<Vec<String>> {
    if !folder().exists() {
        return Ok(vec![]);
    }
    Stack::open(&folder(), Options::default())?.stop().await
}

/// Every demonstration begins with empty servers.
async fn forget_the_last() -> Result<()> {
    stop().await?;
    if folder().exists() {
        Postgres::delete_elsewhere(&folder().join("postgres"));
        fs::remove_dir_all(folder()).context("cannot delete the last demonstration's data")?;
    }
    Ok(())
}

/// Lets the crowd rush; true if everything holds.
async fn show(demo: &Demo, stack: &mut Stack, stages: &Stages) -> Result<bool> {
    let password = make_admin(stack).await?;
    stages.say(&format!("{} patients rush for {} places", demo.patients, demo.places));
    let mut rush = rush_command(stack, &password)?;
    rush.arg("run");
    rush.args(["--patients", &demo.patients.to_string(), "--places", &demo.places.to_string()]);
    rush.arg("--counter-file").arg(counter_file());
    rush.arg("--history").arg(folder().join("history.jsonl"));
    if demo.json {
        rush.arg("--json").stdout(File::create(report_file())?);
    }
    rush.args(&demo.rush);
    let is_clean = if demo.kill {
        rush_under_fire(demo, stack, stages, &mut rush).await?
    } else {
        command::run(&mut rush).await?.success()
    };
    if demo.keep && is_clean {
        example(stack, &password).await?;
    }
    Ok(is_clean)
}

/// Makes an admin and returns the password.
pub(crate) async fn make_admin(stack: &Stack) -> Result<String> {
    let password = unique() + &unique();
    let mut create = stack.program("gateway")?;
    create.args(["create-admin", "--login", ADMIN]).env("SLOTRUSH_ADMIN_PASSWORD", &password);
    command::succeed(create.stdout(Stdio::null())).await.context("cannot make an admin")?;
    Ok(password)
}

/// The crowd, told where everything is.
pub(crate) fn rush_command(stack: &Stack, password: &str) -> Result<Command> {
    let mut rush = stack.program("rush")?;
    let gateway = stack.gateway_urls().into_iter().next().context("there is no gateway")?;
    rush.env("SLOTRUSH_GATEWAY_URL", gateway);
    rush.env("SLOTRUSH_ADMIN_LOGIN", ADMIN).env("SLOTRUSH_ADMIN_PASSWORD", password);
    Ok(rush)
}

async fn rush_under_fire(
    demo: &Demo,
    stack: &mut Stack,
    stages: &Stages,
    rush: &mut Command,
) -> Result<bool> {
    let (is_over, over) = tokio::sync::watch::channel(false);
    let rushing = async {
        let status = command::run(rush).await;
        // Nobody listens any more if both kills are done.
        let _ = is_over.send(true);
        status
    };
    let (status, killed) = tokio::join!(rushing, kill_some(demo.patients, stack, stages, over));
    killed?;
    Ok(status?.success())
}

/// Kills each once its share of the patients has a first answer, and starts it again at once.
async fn kill_some(
    patients: u32,
    stack: &mut Stack,
    stages: &Stages,
    over: tokio::sync::watch::Receiver<bool>,
) -> Result<()> {
    for (percent, part) in KILLS {
        let enough = u64::from(patients) * u64::from(percent) / 100;
        while answered(&counter_file()).is_none_or(|count| count < enough) {
            if *over.borrow() {
                bail!("the rush was over before {part} could be killed");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        stack.kill(part).await?;
        stages.say(&format!("killed {part} at {percent} % of first answers; starting it again"));
        stack.restart(part).await?;
    }
    Ok(())
}

/// How many patients got a first answer; `None` before the rush.
fn answered(counter: &Path) -> Option<u64> {
    fs::read_to_string(counter).ok()?.trim().parse().ok()
}

/// Prints how to try it by hand.
async fn example(stack: &Stack, password: &str) -> Result<()> {
    println!("\nTry it");
    let addresses = [
        ("patients and admins", stack.gateway_urls()),
        ("metrics, readiness", [stack.gateway_admin_urls(), stack.worker_admin_urls()].concat()),
        ("Redis", vec![stack.redis_url()]),
        ("RabbitMQ", vec![stack.amqp_url()]),
        ("PostgreSQL", vec![stack.database_url()]),
    ];
    for (what, urls) in addresses {
        println!("  {what:<20} {}", urls.join(" "));
    }
    println!("  an admin's log-in    {ADMIN} / {password}");
    let mut example = rush_command(stack, password)?;
    example.args(["example", "--places", "8", "--lead-ms", "1000"]);
    command::succeed(&mut example).await
}

fn counter_file() -> PathBuf {
    folder().join("answered")
}

fn report_file() -> PathBuf {
    folder().join("report.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_rush_there_is_no_count() {
        let file = std::env::temp_dir().join(unique());
        assert_eq!(answered(&file), None);
        fs::write(&file, "17\n").expect("written");
        assert_eq!(answered(&file), Some(17));
        fs::remove_file(&file).expect("removed");
    }
}
