//! What the macros call in an armed build.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};

use rand::Rng as _;
use rand::seq::SliceRandom as _;
use signal_hook::consts::{SIGKILL, SIGSTOP};

use crate::plan::{Action, Entry, Plan, When, parse};

const VARIABLE: &str = "SLOTRUSH_FAILPOINTS";
/// Exit code of a program whose plan can't be read.
const EXIT_PLAN: i32 = 2;

/// Where the plan is.
enum Source {
    Fixed(Plan),
    File(PathBuf),
}

static SOURCE: LazyLock<Source> = LazyLock::new(|| {
    let text = std::env::var(VARIABLE).unwrap_or_default();
    match text.strip_prefix('@') {
        Some(path) => Source::File(path.into()),
        None => Source::Fixed(parse_or_exit(&text)),
    }
});

/// How often each planned point was passed.
static PASSED: LazyLock<Mutex<HashMap<&'static str, u64>>> = LazyLock::new(Mutex::default);

/// Passes a point, or does not.
pub async fn pass(name: &'static str) {
    let Some(Entry::Act(action, when)) = planned(name) else { return };
    let passed = count(name);
    if matches!(when, When::Nth(nth) if nth != passed) {
        return;
    }
    // Written before anything can happen to this process: a test looks for it.
    eprintln!("failpoint {name}: {action:?}");
    match action {
        Action::Kill => end(SIGKILL),
        Action::Stop => end(SIGSTOP),
        Action::Pause(time) => tokio::time::sleep(time).await,
    }
}

/// Does the step at once if nothing is planned for the point; else passes the point, and then does it.
pub fn before(name: &'static str, step: impl FnOnce() + Send + 'static) {
    if !matches!(planned(name), Some(Entry::Act(..))) {
        return step();
    }
    tokio::spawn(async move {
        pass(name).await;
        step();
    });
}

/// Tells whether what is named happens this time.
pub fn chance(name: &'static str) -> bool {
    let percent = match planned(name) {
        Some(Entry::Chance(percent)) => percent,
        Some(Entry::Act(..) | Entry::Amount(_)) | None => 0,
    };
    rand::rng().random_range(0..100) < percent
}

/// Puts a list in a random order.
pub fn shuffle<T>(list: &mut [T]) {
    list.shuffle(&mut rand::rng());
}

/// Returns the amount that the plan gives to the name, else 0.
pub fn amount(name: &'static str) -> i64 {
    match planned(name) {
        Some(Entry::Amount(amount)) => amount,
        Some(Entry::Act(..) | Entry::Chance(_)) | None => 0,
    }
}

fn planned(name: &str) -> Option<Entry> {
    let plan = match &*SOURCE {
        Source::Fixed(plan) => Cow::Borrowed(plan),
        Source::File(path) => Cow::Owned(parse_or_exit(&std::fs::read_to_string(path).ok()?)),
    };
    plan.get(name).copied()
}

fn count(name: &'static str) -> u64 {
    let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    let times = passed.entry(name).or_default();
    *times += 1;
    *times
}

fn end(signal: i32) {
    if let Err(error) = signal_hook::low_level::raise(signal) {
        eprintln!("failpoint: {error}");
        std::process::abort();
    }
}

fn parse_or_exit(text: &str) -> Plan {
    parse(text).unwrap_or_else(|entry| {
        eprintln!("{VARIABLE}: not understood: {entry}");
        std::process::exit(EXIT_PLAN);
    })
}
