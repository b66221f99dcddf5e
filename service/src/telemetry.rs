//! Logs and metrics.
//!
//! Logs go to standard error, one line per event: standard output belongs to what a command
//! prints. A line carries level, target, message, its own fields and those of every span around it,
//! so that a `request_id` or `booking_id` set once is on everything said inside.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, anyhow};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::fmt::time::SystemTime;

use crate::log_line::JsonLine;
use crate::log_lines::LogLines;
use crate::settings::Invalid;

pub use crate::log_lines::LastLines;

/// Upper bounds of `*_seconds` histograms: a hold takes about 1 ms, a rush drains in seconds.
const SECONDS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    120.0,
];
/// Upper bounds of `*_size` histograms.
const SIZES: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0];

/// How often histograms are compacted; without it they grow until somebody asks for them.
const UPKEEP: Duration = Duration::from_secs(5);

/// How a program logs (clap group; flatten it).
#[derive(Clone, Debug, clap::Args)]
#[group(id = "telemetry")]
#[command(next_help_heading = "Logs")]
pub struct Settings {
    /// Log filter, in the form of `RUST_LOG`, for example `info,gateway=debug`
    #[arg(long, env = "SLOTRUSH_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// Log form
    #[arg(long, env = "SLOTRUSH_LOG_FORMAT", default_value = "json")]
    pub log_format: Format,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// Installs the logger, on standard error; once per process. Lines are gathered for a moment: what comes back
/// is to be kept until the program ends.
///
/// Nothing is ever logged from the `muted` targets, whatever the filter says: libraries that put
/// payloads in their lines, or errors that the crate around them expects and reports itself.
pub fn init(settings: &Settings, muted: &[&str]) -> anyhow::Result<LastLines> {
    let mut filter = EnvFilter::try_new(&settings.log).map_err(|_| {
        Invalid::new("SLOTRUSH_LOG", "expected a filter such as info,gateway=debug")
    })?;
    for target in muted {
        filter = filter.add_directive(format!("{target}=off").parse()?);
    }
    let (lines, last) = LogLines::start(std::io::stderr()).context("no thread for the log")?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines);
    match settings.log_format {
        Format::Json => {
            let json = lines.fmt_fields(JsonFields::new());
            json.event_format(JsonLine::new(SystemTime)).try_init()
        }
        Format::Text => lines.with_ansi(false).try_init(),
    }
    .map_err(|error| anyhow!(error))
    .context("the logger is installed already")?;
    Ok(last)
}

/// The process's metrics, rendered on `/metrics`.
#[derive(Clone, Debug)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Installs the recorder, with its upkeep; the first call does, later ones return the same.
    ///
    /// Histograms named `*_seconds` and `*_size` have buckets of their own.
    pub fn install() -> Self {
        static INSTALLED: OnceLock<Metrics> = OnceLock::new();
        INSTALLED.get_or_init(Self::install_first).clone()
    }

    /// Renders the Prometheus text form, with what the system says of the process at this moment.
    pub fn render(&self) -> String {
        // Exact up to 2^53: more than any machine's memory.
        #[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
        let as_gauge = |value: u64| value as f64;
        if let Some(bytes) = crate::process::resident_bytes() {
            metrics::gauge!("process_resident_memory_bytes").set(as_gauge(bytes));
        }
        if let Some(fds) = crate::process::open_fds() {
            metrics::gauge!("process_open_fds").set(as_gauge(fds));
        }
        self.handle.render()
    }

    fn install_first() -> Self {
        let recorder = with_buckets().build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::error!("another metrics recorder is installed: /metrics stays empty");
        }
        metrics::describe_gauge!(
            "process_resident_memory_bytes",
            metrics::Unit::Bytes,
            "Resident memory of this process"
        );
        metrics::describe_gauge!("process_open_fds", "Open file descriptors of this process");
        let upkept = handle.clone();
        // A thread, not a task: it must outlive the runtime it happens to be installed from.
        let upkeep = std::thread::Builder::new().name("metrics-upkeep".into()).spawn(move || {
            loop {
                std::thread::sleep(UPKEEP);
                upkept.run_upkeep();
            }
        });
        if let Err(error) = upkeep {
            tracing::error!(%error, "metrics are not compacted");
        }
        Self { handle }
    }
}

fn with_buckets() -> PrometheusBuilder {
    let seconds = Matcher::Suffix("_seconds".into());
    let sizes = Matcher::Suffix("_size".into());
    // Setting buckets fails only for an empty list.
    PrometheusBuilder::new()
        .set_buckets_for_metric(seconds, &SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(sizes, &SIZES))
        .unwrap_or_else(|_| PrometheusBuilder::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installing_twice_gives_the_same_metrics() {
        let first = Metrics::install();
        metrics::counter!("test_events_total").increment(3);
        let second = Metrics::install();
        metrics::counter!("test_events_total").increment(1);
        assert!(first.render().contains("test_events_total 4"));
        assert!(second.render().contains("test_events_total 4"));
    }

    #[test]
    fn seconds_have_buckets_and_the_process_is_measured() {
        let metrics = Metrics::install();
        metrics::histogram!("test_wait_seconds").record(0.003);
        let text = metrics.render();
        assert!(text.contains("test_wait_seconds_bucket{le=\"0.005\"} 1"), "{text}");
        assert!(text.contains("process_resident_memory_bytes "), "{text}");
        assert!(text.contains("process_open_fds "), "{text}");
    }

    #[test]
    fn a_bad_filter_is_refused_in_one_line_that_names_the_setting() {
        let settings = Settings { log: "info,=[".into(), log_format: Format::Text };
        let error = init(&settings, &[]).expect_err("not a filter").to_string();
        assert!(error.starts_with("SLOTRUSH_LOG: ") && !error.contains('\n'), "{error}");
    }
}
