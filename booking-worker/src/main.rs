//! The consumer program: settings, run, exit code.

use std::process::ExitCode;

use booking_worker::Settings;
use service::{settings, shutdown, telemetry};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    settings::exit_code(start(&settings::parse_or_exit()))
}

fn start(settings: &Settings) -> anyhow::Result<()> {
    settings.check()?;
    let _last_lines = telemetry::init(&settings.telemetry, &broker::MUTED_LOG_TARGETS)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.threads.into())
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let stop = shutdown::on_signal();
        let name = "SLOTRUSH_WORKER_ADMIN_LISTEN";
        let admin = settings::listen(name, settings.admin_listen).await?;
        booking_worker::run(settings, admin, stop).await
    })
}
