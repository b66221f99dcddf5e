//! The usual ways to book: see `direct --help`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    service::settings::exit_code(direct::run(service::settings::parse_or_exit()).await)
}
