//! The whole run: starts everything, plays the arms, reports.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use e2e::system::PARTITIONS;
use testkit::Postgres;

use crate::arms::{Pace, Rig};
use crate::curves::{self, Theme};
use crate::load::allow_open_files;
use crate::report::Report;
use crate::stats::Verdict;
use crate::world::{Bare, Other, World};

/// For the gateway and for the load.
const OPEN_FILES: u64 = 12_000;

/// Measures the pipeline beside the usual ways, on private servers
#[derive(Debug, Parser)]
#[command(name = "bench", version, max_term_width = 100)]
pub struct Args {
    /// Two rounds of two seconds each, for a first look
    #[arg(long)]
    pub quick: bool,
    /// Only what these ratios (A1, C1, …) or groups (floor, accept, hot, spread, drain, latency, queue, growth,
    /// and deep, a queue of five million, which is played only where it is named) need
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Print everything as one JSON object on the last line
    #[arg(long)]
    pub json: bool,
    /// Draw the latency curves into this folder: latency-light.svg and latency-dark.svg
    #[arg(long)]
    pub curves: Option<PathBuf>,
    /// What is measured, for the report
    #[arg(long, default_value = "unknown commit")]
    pub commit: String,
    /// An empty folder for data and logs [default: a temporary one]
    #[arg(long)]
    pub folder: Option<PathBuf>,
    /// Ends with an error if a ratio misses its gate
    #[arg(long)]
    pub gates: bool,
}

/// Measures; true unless a gate that was asked for was missed.
///
/// # Errors
/// If something does not start or answer, or the books of a round don't balance.
pub async fn run(args: Args) -> Result<bool> {
    let began = Instant::now();
    let say = |text: &str| eprintln!("[{:>6.1} s] {text}", began.elapsed().as_secs_f64());
    let folder = match &args.folder {
        Some(folder) => std::path::absolute(folder)?,
        None => tempfile::Builder::new().prefix("slotrush-bench-").tempdir()?.keep(),
    };
    std::fs::create_dir_all(&folder)?;
    // Before anything is started: all inherit it.
    allow_open_files(OPEN_FILES).context("ten thousand connections at once need open files")?;
    let pace = if args.quick { Pace::QUICK } else { Pace::FULL };
    say(&format!("starting servers and programs, {} patients", pace.patients));
    let world = World::start(&folder, PARTITIONS, pace.patients).await?;
    let other = Other::start(&world).await?;
    let bare = Bare::start(&folder.join("bare")).await?;
    let mut rig = Rig::new(world, other, bare, pace, &say);
    let played = rig.play(&args.only).await;
    let results = std::mem::take(&mut rig.results);
    drop(rig);
    let report = Report::new(results, args.commit);
    if let Err(error) = played {
        // What was measured until then is not lost.
        eprint!("{}", report.text());
        if args.json {
            println!("{}", serde_json::to_string(&report)?);
        }
        return Err(error.context(format!("data and logs are in {}", folder.display())));
    }
    Postgres::delete_elsewhere(&folder.join("postgres"));
    std::fs::remove_dir_all(&folder).context("deleting the data")?;
    if let Some(folder) = &args.curves {
        draw(&report, folder)?;
    }
    let is_good = report.ratios.iter().all(|ratio| ratio.verdict != Verdict::Missed);
    if args.json {
        eprint!("{}", report.text());
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(is_good || !args.gates)
}

/// Draws the latency curves, once for each background.
fn draw(report: &Report, folder: &Path) -> Result<()> {
    let points = report.curve();
    ensure!(!points.is_empty(), "no curve without latencies: leave --only away, or add latency");
    std::fs::create_dir_all(folder)?;
    let title = "Answer time of an accepted booking";
    let subtitle = report.subtitle();
    for (name, theme) in [("light", Theme::Light), ("dark", Theme::Dark)] {
        let path = folder.join(format!("latency-{name}.svg"));
        std::fs::write(&path, curves::draw(title, &subtitle, &points, theme))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Args::command().debug_assert();
    }
}
