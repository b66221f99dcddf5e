//! Before a patient is refused for a booking that memory knows of: does it still stand, and did this
//! very request come before, through another gateway?
//!
//! Memory follows PostgreSQL by up to half a second. In that time a patient may give a booking back
//! and get another through another gateway; a repeat of that request must get its first answer.
//! Only who has a booking comes here, so asking costs nothing in a rush of many for few places.

use std::time::Duration;

use booking::Partition;

use super::held::Standing;
use super::{Admitted, Wish};
use crate::app::App;

/// How long the rows may take.
const ROW_WAIT: Duration = Duration::from_millis(400);

/// Asks Redis and PostgreSQL, and judges again; `Err` is what to answer if one of them is silent.
pub(super) async fn resolve(
    app: &App,
    wish: &Wish,
    partition: Partition,
) -> Result<Standing, Admitted> {
    let session = wish.slot.session();
    let known = app.inventory.known(partition, session, wish.patient).await;
    match known.map_err(|_| Admitted::InventoryDown)? {
        Some(first) if first.key == wish.key && first.request == wish.request() => {
            return Ok(Standing::Replay(first.id));
        }
        Some(first) if first.key == wish.key => return Ok(Standing::KeyReused),
        Some(_) | None => {}
    }
    for id in app.memory.held.live(wish.patient) {
        let row = app.rows.find(id, ROW_WAIT).await.map_err(|_| Admitted::LedgerDown)?;
        if row.is_some_and(|row| !row.state.is_live()) {
            app.memory.held.note_cancelled(wish.patient, id);
        }
    }
    Ok(app.memory.held.judge(wish, || app.facts.peek(session)))
}
