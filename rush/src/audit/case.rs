//! History and evidence, laid out for judging.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use booking::{BookingId, Digest, PatientId, SlotId};
use ledger::booking_row::BookingRow;

use crate::answer::{Answer, Status};
use crate::history::{Ask, Event, History, Plan};

use super::Evidence;

/// All that a judgement may look at.
pub(super) struct Case<'a> {
    pub(super) plan: &'a Plan,
    pub(super) history: &'a History,
    pub(super) evidence: &'a Evidence,
    /// Rows of the plan's slots.
    pub(super) rows: Vec<&'a BookingRow>,
    pub(super) row_of: HashMap<BookingId, &'a BookingRow>,
    pub(super) crowd: HashSet<PatientId>,
    /// Requests for a place by patient and key, in the order of their answers.
    pub(super) attempts: BTreeMap<(PatientId, Digest), Vec<(SlotId, &'a Event)>>,
    /// Every id anybody was told "queued" of.
    pub(super) promised: BTreeSet<BookingId>,
}

impl<'a> Case<'a> {
    pub(super) fn new(plan: &'a Plan, history: &'a History, evidence: &'a Evidence) -> Self {
        let slots: HashSet<SlotId> = plan.offers.iter().map(|offer| offer.slot).collect();
        let mut attempts: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut promised = BTreeSet::new();
        for event in &history.events {
            if let Ask::Book(wish) = event.ask {
                attempts.entry((event.patient, wish.key)).or_default().push((wish.slot, event));
            }
            if let Answer::Booking { id, status: Status::Queued, .. } = event.answer {
                promised.insert(id);
            }
        }
        Self {
            plan,
            history,
            evidence,
            rows: evidence.rows.iter().filter(|row| slots.contains(&row.booking.slot)).collect(),
            row_of: evidence.rows.iter().map(|row| (row.booking.id, row)).collect(),
            crowd: history.crowd.iter().copied().collect(),
            attempts,
            promised,
        }
    }

    /// Returns the live appointments of the plan's slots.
    pub(super) fn live(&self) -> impl Iterator<Item = &'a BookingRow> + '_ {
        self.rows.iter().copied().filter(|row| row.state.is_live())
    }
}
