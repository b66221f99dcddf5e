//! How far the rush is, for a person and for whoever watches the counter file.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, interval};

/// How often the bar and the counter file are renewed.
const REFRESH: Duration = Duration::from_millis(100);

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Counts patients. Shared by all of them.
#[derive(Debug, Default)]
pub struct Counters {
    /// Patients who sent something.
    pub arrived: AtomicU32,
    /// Patients who got a first answer.
    pub answered: AtomicU32,
    /// Patients who got their final answer.
    pub finished: AtomicU32,
    /// Of these, with a place.
    pub booked: AtomicU32,
    /// When the latest first answer came, ms after the opening.
    pub answered_ms: AtomicU64,
}

impl Counters {
    /// Adds one.
    pub fn add(counter: &AtomicU32) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a patient's first answer, so long after the opening.
    pub fn first_answer(&self, after: Duration) {
        Self::add(&self.answered);
        let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.answered_ms.fetch_max(ms, Ordering::Relaxed);
    }

    fn line(&self) -> String {
        let read = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
        format!(
            "arrived {:>6}   answered {:>6}   booked {:>5}",
            read(&self.arrived),
            read(&self.answered),
            read(&self.booked),
        )
    }
}

/// Shows the counters until dropped or finished.
#[derive(Debug)]
pub struct Display {
    bar: ProgressBar,
    is_terminal: bool,
    file: Option<PathBuf>,
    patients: u32,
}

impl Display {
    /// Prepares the bar, and the counter file that holds the number of first answers.
    ///
    /// # Errors
    /// If the counter file can't be written.
    pub fn new(patients: u32, file: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(path) = file {
            std::fs::write(path, "0").with_context(|| format!("writing {}", path.display()))?;
        }
        let is_terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(
            Some(u64::from(patients)),
            if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() },
        );
        let template = "  {bar:40.cyan/blue} {percent:>3} % final   {msg}   {elapsed}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Ok(Self { bar, is_terminal, file: file.map(Path::to_owned), patients })
    }

    /// Renews the display for ever; the caller drops it when the rush is over.
    pub async fn follow(&self, counters: &Counters) {
        let mut tick = interval(REFRESH);
        let mut next_line = Instant::now() + LINE_EVERY;
        loop {
            tick.tick().await;
            self.show(counters);
            if !self.is_terminal && Instant::now() >= next_line {
                next_line += LINE_EVERY;
                self.print_line(counters);
            }
        }
    }

    /// Shows the last state.
    pub fn finish(&self, counters: &Counters) {
        self.show(counters);
        self.bar.finish();
        if !self.is_terminal {
            self.print_line(counters);
        }
    }

    fn print_line(&self, counters: &Counters) {
        let finished = counters.finished.load(Ordering::Relaxed);
        eprintln!("  {finished:>6} of {} final   {}", self.patients, counters.line());
    }

    fn show(&self, counters: &Counters) {
        self.bar.set_position(u64::from(counters.finished.load(Ordering::Relaxed)));
        self.bar.set_message(counters.line());
        if let Some(path) = &self.file {
            // Whoever watches may miss one state; a fault here must not end the rush.
            let _missed =
                std::fs::write(path, counters.answered.load(Ordering::Relaxed).to_string());
        }
    }
}
