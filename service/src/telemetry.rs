//! Logs and metrics.
/// How a program logs (clap group; flatten it).
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// Log filter, in the form of `RUST_LOG` [example: info,gateway=debug]
    #[arg(long, env = "SLOTRUSH_LOG", default_value = "info")]
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
/// Installs the logger; once per process.
pub fn init(settings: &Settings) -> anyhow::Result<()> { unimplemented!() }
/// The process's metrics, rendered on `/metrics`.
#[derive(Clone)]
pub struct Metrics {}
impl Metrics {
    /// Installs the recorder (the first call does, later ones return the same), with its upkeep task.
    pub fn install() -> Self { unimplemented!() }
    /// Renders the Prometheus text form.
    pub fn render(&self) -> String { unimplemented!() }
}
