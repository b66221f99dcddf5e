//! `GET /v1/patients`

use axum::extract::State;
use ledger::patient::PatientRow;

use super::PatientView;
use crate::app::App;
use crate::auth::id_number::mask;
use crate::auth::seal::{Column, Sealer};
use crate::auth::{Identity, seal};
use crate::extract::Json;
use crate::page::Page;
use crate::problem::{Problem, ProblemBody};

/// List the patients the account acts for
#[utoipa::path(
    get,
    path = "/v1/patients",
    tag = "patients",
    security(("token" = [])),
    responses(
        (status = 200, body = Page<PatientView>),
        (status = 401, body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    State(app): State<App>,
    identity: Identity,
) -> Result<Json<Page<PatientView>>, Problem> {
    let rows = app.ledger.patients(identity.account).await?;
    let items = rows.iter().map(|row| view(&app.sealer, row)).collect::<Result<_, _>>()?;
    Ok(Json(Page { items, next_cursor: None }))
}

fn view(sealer: &Sealer, row: &PatientRow) -> Result<PatientView, seal::Broken> {
    // Members of a made-up crowd have neither name nor number.
    let open = |column, kept: &[u8]| {
        if kept.is_empty() { Ok(String::new()) } else { sealer.open(column, kept) }
    };
    Ok(PatientView {
        id: row.id,
        name: open(Column::PatientName, &row.name_sealed)?,
        id_number_masked: mask(&open(Column::IdNumber, &row.id_number_sealed)?),
    })
}
