//! How a release is shown.

use std::collections::BTreeMap;

use booking::{HospitalId, Partition, ReleaseId, SessionId, SlotId, UnixMs};
use ledger::release::{Release, ReleaseState};
use serde::Serialize;

use crate::app::App;
use crate::catalogue::left_of;
use crate::problem::Problem;
use crate::routes::catalogue::view::zone;
use crate::time_text;

/// A release.
#[derive(Serialize, utoipa::ToSchema)]
pub struct ReleaseView {
    #[schema(value_type = String)]
    id: ReleaseId,
    #[schema(value_type = String)]
    hospital_id: HospitalId,
    name: String,
    /// `planned`, `preheated`, `open`, `paused` or `closed`.
    status: &'static str,
    #[schema(format = DateTime)]
    opens_at: String,
    #[schema(format = DateTime)]
    closes_at: String,
    counts: CountsView,
}

/// Places and bookings of a release.
#[derive(Serialize, utoipa::ToSchema)]
pub struct CountsView {
    slots: u64,
    /// Places there are.
    capacity: u64,
    /// Live appointments.
    booked: u64,
    /// Places Redis may still sell; absent if it does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<u64>,
    /// Places set aside for Redis: `left`, and what was sold and is not persisted yet.
    escrowed: u64,
    /// Places that may be set aside now.
    free: u64,
    /// Rejected bookings.
    rejected: u64,
    /// Cancelled bookings.
    cancelled: u64,
}

impl ReleaseView {
    /// Shows a release as it is at `now`.
    pub fn of(release: Release, left: Option<u64>, now: UnixMs) -> Self {
        let zone = zone(&release.time_zone);
        let status = release.word(now).as_str();
        let counts = release.counts;
        Self {
            id: release.id,
            hospital_id: release.hospital,
            name: release.name,
            status,
            opens_at: time_text(release.opens_at, &zone),
            closes_at: time_text(release.closes_at, &zone),
            counts: CountsView {
                slots: counts.slots,
                capacity: counts.capacity,
                booked: counts.booked,
                left,
                escrowed: counts.escrowed,
                free: counts.free,
                rejected: counts.rejected,
                cancelled: counts.cancelled,
            },
        }
    }
}

/// Shows a release with what is left of it by Redis's count; `None` if there is no such release.
pub async fn find(app: &App, id: ReleaseId) -> Result<Option<(Release, ReleaseView)>, Problem> {
    let Some(release) = app.ledger.release(id).await? else { return Ok(None) };
    let left = match release.state {
        ReleaseState::Preheated => left(app, app.ledger.slots_of_release(id).await?).await,
        ReleaseState::Planned | ReleaseState::Closed => Some(0),
    };
    let view = ReleaseView::of(release.clone(), left, app.clock.now());
    Ok(Some((release, view)))
}

async fn left(app: &App, slots: Vec<SlotId>) -> Option<u64> {
    let mut sessions: BTreeMap<Partition, Vec<SessionId>> = BTreeMap::new();
    for slot in &slots {
        let of_partition = sessions.entry(app.partitions.of_slot(*slot)).or_default();
        // Slots come by id, so those of one session stand together.
        if of_partition.last() != Some(&slot.session()) {
            of_partition.push(slot.session());
        }
    }
    let left = left_of(&app.inventory, &sessions).await?;
    Some(slots.iter().filter_map(|slot| left.get(slot)).map(|left| u64::from(*left)).sum())
}
