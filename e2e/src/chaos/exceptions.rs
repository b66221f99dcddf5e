//! What the documents except from the promises: set aside before judging, counted and shown.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use booking::{BookingId, Digest, PatientId, Reason, SlotId, UnixMs};
use rush::answer::{Answer, Status};
use rush::audit::Evidence;
use rush::history::{Ask, Event, History};

/// How long a gateway may answer "sold out" from memory, as the documents say.
const HASTY_MAX: Duration = Duration::from_secs(1);

/// Takes pending bookings out that Redis took with it, and counts them.
///
/// Pending is not a promise. If Redis is lost before such a booking was published, nothing holds it
/// any more: its id is answered 404 by a gateway that never knew it, or lapses where it is known, and
/// a repeat of the request gets another id (I8, decision 5). None of this is allowed to an id that
/// anybody was told more of, that has another row than such an end, or whose request came first when
/// Redis had forgotten for the last time (`lost_until`).
pub(super) fn set_forgotten_aside(
    history: &mut History,
    lost_until: Option<UnixMs>,
    evidence: &Evidence,
) -> u64 {
    let Some(lost_until) = lost_until else { return 0 };
    let rows: BTreeMap<BookingId, Option<Reason>> =
        evidence.rows.iter().map(|row| (row.booking.id, row.reason)).collect();
    let is_gone = |id: &BookingId| match rows.get(id) {
        None => true,
        Some(reason) => matches!(reason, Some(Reason::Late | Reason::Lapsed)),
    };
    let mut first_asked: HashMap<(PatientId, Digest), UnixMs> = HashMap::new();
    for event in &history.events {
        let Ask::Book(wish) = event.ask else { continue };
        let first = first_asked.entry((event.patient, wish.key)).or_insert(event.invoked_at);
        *first = event.invoked_at.min(*first);
    }
    let was_before = |event: &Event| match event.ask {
        Ask::Book(wish) => {
            first_asked.get(&(event.patient, wish.key)).is_some_and(|at| *at <= lost_until)
        }
        Ask::Status { .. } => false,
    };
    let mut pending: BTreeSet<BookingId> = BTreeSet::new();
    let mut promised: BTreeSet<BookingId> = BTreeSet::new();
    for event in &history.events {
        match event.answer {
            Answer::Booking { id, status: Status::Pending, .. } if was_before(event) => {
                pending.insert(id)
            }
            Answer::Booking { id, status: Status::Queued | Status::Booked, .. } => {
                promised.insert(id)
            }
            _ => continue,
        };
    }
    let forgotten: BTreeSet<_> =
        pending.into_iter().filter(|id| !promised.contains(id) && is_gone(id)).collect();
    history.events.retain(|event| {
        let is_silence = event.answer == Answer::NotFound;
        !matches!(event.ask, Ask::Status { id } if is_silence && forgotten.contains(&id))
    });
    for event in &mut history.events {
        if let Answer::Booking { id, status: Status::Pending, .. } = event.answer
            && forgotten.contains(&id)
            && !rows.contains_key(&id)
        {
            // No effect, and no answer worth more than none.
            event.answer = Answer::Lost;
        }
    }
    forgotten.len() as u64
}

/// Takes out the refusals that the documents except from I8, and counts them: a place that came
/// back was sold by one gateway, and another one answered a repeat of that very request from its
/// memory of "sold out". That memory ends [`HASTY_MAX`] after Redis was asked; the place was sold
/// after that, and its sale answered later still. Where no place ever came back, by a row that ended
/// or by a new epoch (`is_new_epoch`), nothing is excepted.
pub(super) fn set_hasty_refusals_aside(
    history: &mut History,
    is_new_epoch: bool,
    evidence: &Evidence,
) -> u64 {
    let ended = evidence.rows.iter().filter(|row| !row.state.is_live());
    let came_back: BTreeSet<SlotId> = ended.map(|row| row.booking.slot).collect();
    let mut given: HashMap<(PatientId, Digest), UnixMs> = HashMap::new();
    let before = history.events.len();
    history.events.retain(|event| {
        let Ask::Book(wish) = event.ask else { return true };
        let key = (event.patient, wish.key);
        match &event.answer {
            Answer::Booking { .. } => {
                given.entry(key).or_insert(event.answered_at);
                true
            }
            Answer::Refused { code, .. }
                if code == "slot_exhausted" && (is_new_epoch || came_back.contains(&wish.slot)) =>
            {
                let is_hasty = |at: &UnixMs| {
                    let age = Duration::from_millis(event.invoked_at.since(*at));
                    event.invoked_at > *at && age <= HASTY_MAX
                };
                !given.get(&key).is_some_and(is_hasty)
            }
            _ => true,
        }
    });
    (before - history.events.len()) as u64
}

#[cfg(test)]
mod tests {
    use booking::{ReleaseId, SessionId};
    use gateway::admission::refusals::STALE_AFTER;
    use rush::answer::Wish;
    use rush::history::{Offer, Plan};

    use super::super::fate::Fate;
    use super::super::verdict::{Verdict, decide};
    use super::*;

    fn event(at_ms: i64, answer: Answer) -> Event {
        let slot = SlotId::of(SessionId::from(1), 0);
        let ask = Ask::Book(Wish { key: Digest::of_key("k"), slot });
        let (invoked_at, answered_at) = (UnixMs(at_ms), UnixMs(at_ms + 5));
        Event { patient: PatientId::from(1), ask, invoked_at, answered_at, answer, gateway: None }
    }

    fn queued() -> Answer {
        Answer::Booking { id: BookingId::from(7), status: Status::Queued, reason: None }
    }

    fn refused(code: &str) -> Answer {
        Answer::Refused { code: code.to_owned(), opens_at: None }
    }

    fn judged(events: Vec<Event>) -> Verdict {
        judged_with(events, Some(UnixMs(50)))
    }

    fn judged_with(events: Vec<Event>, lost_until: Option<UnixMs>) -> Verdict {
        let slot = SlotId::of(SessionId::from(1), 0);
        let plan = Plan {
            release: ReleaseId::from(1),
            prepared_at: UnixMs(0),
            opens_at: UnixMs(0),
            offers: vec![Offer { slot, capacity: 1 }],
        };
        let crowd = vec![PatientId::from(1)];
        let is_renewed = lost_until.is_some();
        let history = History { crowd, events, redis_was_lost: is_renewed, ..History::default() };
        let fate = Fate { lost_until, is_renewed, forgot: Vec::new() };
        decide(&plan, &history, &BTreeMap::new(), &fate, &Evidence::default())
    }

    #[test]
    fn a_promise_without_a_row_is_lost() {
        let verdict = judged(vec![event(0, queued())]);
        assert_eq!((verdict.lost, verdict.attempts), (1, 1));
        assert!(verdict.violations.iter().any(|found| found.starts_with("I3: ")));
    }

    #[test]
    fn the_gateway_forgets_as_soon_as_is_judged_here() {
        assert_eq!(STALE_AFTER, HASTY_MAX);
    }

    #[test]
    fn where_no_place_came_back_no_refusal_is_hasty() {
        let events = vec![event(0, queued()), event(500, refused("slot_exhausted"))];
        let verdict = judged_with(events, None);
        assert!(verdict.violations.iter().any(|found| found.starts_with("I8: ")));
        assert_eq!(verdict.hasty_refusals, 0);
    }

    #[test]
    fn only_sold_out_and_only_for_a_moment_is_a_hasty_refusal() {
        let breaks_i8 = |later: Event| {
            let verdict = judged(vec![event(0, queued()), later]);
            let is_broken = verdict.violations.iter().any(|found| found.starts_with("I8: "));
            (is_broken, verdict.hasty_refusals)
        };
        // The answer that gave the place came 5 ms after its request.
        assert_eq!(breaks_i8(event(1_005, refused("slot_exhausted"))), (false, 1));
        assert_eq!(breaks_i8(event(1_006, refused("slot_exhausted"))), (true, 0));
        assert_eq!(breaks_i8(event(500, refused("already_booked"))), (true, 0));
    }

    #[test]
    fn what_was_only_pending_may_be_forgotten_with_redis_and_what_was_promised_may_not() {
        let pending =
            Answer::Booking { id: BookingId::from(7), status: Status::Pending, reason: None };
        let asked =
            Event { ask: Ask::Status { id: BookingId::from(7) }, ..event(100, Answer::NotFound) };
        let breaks_i10 = |first: &Answer, lost_until: Option<i64>| {
            let events = vec![event(10, first.clone()), asked.clone()];
            let verdict = judged_with(events, lost_until.map(UnixMs));
            verdict.violations.iter().any(|found| found.starts_with("I10: "))
        };
        assert!(!breaks_i10(&pending, Some(10)));
        assert!(breaks_i10(&pending, Some(9)), "asked for when Redis had forgotten already");
        assert!(breaks_i10(&pending, None));
        assert!(breaks_i10(&queued(), Some(10)));
    }
}
