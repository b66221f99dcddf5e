//! Settings, run, exit code.

use std::process::ExitCode;

use gateway::settings::{Cli, Command};
use gateway::{auth, openapi, server};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let cli: Cli = service::settings::parse_or_exit();
    service::settings::exit_code(act(cli).await)
}

async fn act(cli: Cli) -> anyhow::Result<()> {
    let settings = cli.settings;
    match cli.command.unwrap_or(Command::Serve) {
        Command::Openapi => print!("{}", openapi::text()),
        Command::Migrate(roles) => gateway::migrate(&settings, &roles).await?,
        Command::DeclareQueues => broker::declare_queues(&settings.broker_alone()?).await?,
        Command::Keygen { dir } => auth::keys::generate(&dir)?,
        Command::CreateAdmin { login, json } => {
            println!("{}", auth::admin::create(&settings, &login, json).await?);
        }
        Command::Serve => {
            settings.check()?;
            let _lines = service::telemetry::init(&settings.telemetry, &broker::MUTED_LOG_TARGETS)?;
            let shutdown = service::shutdown::on_signal();
            let listener = server::listen(settings.listen, settings.server.backlog)?;
            let admin = service::settings::listen("SLOTRUSH_ADMIN_LISTEN", settings.admin_listen);
            let admin = admin.await?;
            // Nothing is said before everything that ends a program at once was looked at.
            server::make_room(settings.server.connections_max);
            gateway::run(settings, listener, admin, shutdown).await?;
        }
    }
    Ok(())
}
