//! What there is to book, for everybody: no token needed, an answer may be a second old.

pub mod departments;
pub mod doctors;
pub mod hospitals;
pub mod session;
pub mod sessions;
pub mod time;
pub mod view;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::problem::{Code, Problem};

/// Returns the routes of the catalogue.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(hospitals::hospitals))
        .routes(routes!(departments::departments))
        .routes(routes!(doctors::doctors))
        .routes(routes!(sessions::sessions))
        .routes(routes!(session::session))
        .routes(routes!(time::time))
}

/// Answers with what `make` makes, or what it made for another client within the last second.
async fn shared<T: Serialize>(
    app: &App,
    name: String,
    make: impl AsyncFnOnce() -> Result<Option<T>, Problem>,
) -> Result<Response, Problem> {
    let written = async {
        // Only who finds nothing remembered pays for the room this takes.
        let Some(view) = Box::pin(make()).await? else { return Ok(None) };
        let json = serde_json::to_vec(&view).map_err(Problem::internal)?;
        Ok(Some(Bytes::from(json)))
    };
    match app.catalogue.view(name, written).await? {
        Some(json) => {
            let headers =
                [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "public, max-age=1")];
            Ok((headers, json).into_response())
        }
        None => Err(Code::NotFound.into()),
    }
}
