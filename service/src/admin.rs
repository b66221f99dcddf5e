//! The admin port: `/livez`, `/readyz`, `/metrics`, over plain hyper.
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use crate::{health::Health, telemetry::Metrics};
/// Serves until shutdown.
pub async fn serve(listener: TcpListener, health: Health, metrics: Metrics, shutdown: CancellationToken) { unimplemented!() }
