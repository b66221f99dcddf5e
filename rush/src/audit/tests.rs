//! The judge on made-up histories: each violation is seen, and a clean run is clean.

use booking::{
    AccountId, Booking, BookingId, Digest, Epoch, Partition, PatientId, Reason, ReleaseId,
    SessionId, SlotId, State, UnixMs,
};
use inventory::SlotCount;
use ledger::audit::Violation;
use ledger::booking_row::BookingRow;

use super::*;
use crate::answer::{Answer, Status, Wish};
use crate::history::{Ask, Event, Forgetful, Forgot, Offer};

/// Two slots of one session with one place each, one sold to patient 1, two patients refused.
struct Made {
    plan: Plan,
    history: History,
    evidence: Evidence,
}

fn slot(ordinal: u8) -> SlotId {
    SlotId::of(SessionId::from(5), ordinal)
}

fn asked(patient: i64, key: &str, slot: SlotId, at: i64, answer: Answer) -> Event {
    Event {
        patient: PatientId::from(patient),
        ask: Ask::Book(Wish { key: Digest::of_key(key), slot }),
        invoked_at: UnixMs(at),
        answered_at: UnixMs(at + 5),
        answer,
        gateway: None,
    }
}

fn told(id: i64, status: Status) -> Answer {
    Answer::Booking { id: BookingId::from(id), status, reason: None }
}

fn refused(code: &str) -> Answer {
    Answer::Refused { code: code.to_owned(), opens_at: None }
}

fn row(id: i64, patient: i64, key: &str, slot: SlotId, state: State) -> BookingRow {
    let patient = PatientId::from(patient);
    BookingRow {
        booking: Booking {
            id: BookingId::from(id),
            epoch: Epoch(1),
            slot,
            patient,
            account: AccountId::from(1),
            key: Digest::of_key(key),
            request: Digest::of_request(slot, patient),
            accepted_at: UnixMs(10),
        },
        state,
        reason: None,
        number: Some(1),
        version: 1,
        persisted_at: UnixMs(20),
        changed_at: UnixMs(20),
    }
}

fn count(slot: SlotId, left: u32, sold: u32) -> SlotCount {
    SlotCount { slot, left, granted: left + sold, sold }
}

fn clean() -> Made {
    let offers = [0, 1].map(|ordinal| Offer { slot: slot(ordinal), capacity: 1 });
    Made {
        plan: Plan {
            release: ReleaseId::from(1),
            prepared_at: UnixMs(0),
            opens_at: UnixMs(10),
            offers: offers.to_vec(),
        },
        history: History {
            crowd: [1, 2, 3].map(PatientId::from).to_vec(),
            events: vec![
                asked(1, "a", slot(0), 10, told(100, Status::Queued)),
                asked(1, "a", slot(0), 20, told(100, Status::Booked)),
                asked(2, "b", slot(0), 30, refused("slot_exhausted")),
                asked(3, "c", slot(0), 30, refused("slot_exhausted")),
            ],
            redis_was_lost: false,
            forgot: Vec::new(),
        },
        evidence: Evidence {
            stillness: Stillness {
                waiting: Some(0),
                parking: 0,
                outbox: Some(0),
                unclosed: Some(Vec::new()),
            },
            ledger: Vec::new(),
            rows: vec![row(100, 1, "a", slot(0), State::Booked)],
            places: Places { capacity: 2, booked: 1, escrowed: 1, free: 0 },
            redis: vec![count(slot(0), 0, 1), count(slot(1), 1, 0)],
            parked: 0,
        },
    }
}

impl Made {
    fn audit(&self) -> Audit {
        judge(&self.plan, &self.history, &self.evidence)
    }

    fn broken(&self) -> Vec<&'static str> {
        let audit = self.audit();
        audit.checks.iter().filter(|c| !c.broken_by.is_empty()).map(|c| c.name).collect()
    }

    fn hears(mut self, event: Event) -> Self {
        self.history.events.push(event);
        self
    }
}

#[test]
fn a_clean_run_is_clean() {
    let audit = clean().audit();
    assert_eq!(audit.violations(), Vec::<String>::new());
    assert_eq!((audit.places, audit.booked, audit.last_persisted_at), (2, 1, Some(UnixMs(20))));
}

#[test]
fn an_appointment_too_many_is_oversold() {
    let mut made = clean();
    made.evidence.rows.push(row(101, 2, "b2", slot(0), State::Booked));
    made.evidence.places.booked = 2;
    made.history.events.push(asked(2, "b2", slot(0), 40, Answer::Lost));
    assert_eq!(made.audit().oversold, 1);
    assert!(made.broken().contains(&"I1"));
}

#[test]
fn a_promise_without_a_row_is_lost() {
    let made = clean().hears(asked(2, "d", slot(1), 40, told(101, Status::Queued)));
    assert_eq!(made.audit().lost, 1);
    assert_eq!(made.broken(), ["I3"]);
}

#[test]
fn a_pending_id_without_a_row_is_no_broken_promise() {
    let made = clean().hears(asked(2, "d", slot(1), 40, told(101, Status::Pending)));
    assert!(made.broken().is_empty());
}

#[test]
fn a_promise_rejected_for_lateness_is_reneged() {
    for (reason, is_fair) in
        [(Reason::Late, false), (Reason::Lapsed, false), (Reason::LimitReached, true)]
    {
        let mut made = clean().hears(asked(2, "d", slot(1), 40, told(101, Status::Queued)));
        let mut rejected = row(101, 2, "d", slot(1), State::Rejected);
        rejected.reason = Some(reason);
        made.evidence.rows.push(rejected);
        assert_eq!(made.broken().is_empty(), is_fair, "{reason}");
    }
}

#[test]
fn two_appointments_of_one_patient_in_a_session_are_duplicates() {
    let mut made = clean().hears(asked(1, "e", slot(1), 40, told(101, Status::Queued)));
    made.evidence.rows.push(row(101, 1, "e", slot(1), State::Booked));
    made.evidence.places = Places { capacity: 2, booked: 2, escrowed: 0, free: 0 };
    made.evidence.redis[1] = count(slot(1), 0, 1);
    assert_eq!(made.audit().duplicated, 1);
    assert_eq!(made.broken(), ["I5"]);
}

#[test]
fn a_place_nobody_can_get_has_leaked() {
    let mut made = clean();
    made.evidence.redis[1] = count(slot(1), 0, 0);
    assert_eq!(made.audit().leaked, 1);
    assert_eq!(made.broken(), ["I6"]);
}

#[test]
fn an_old_epoch_left_open_is_seen() {
    let mut made = clean();
    made.evidence.stillness.unclosed = Some(vec![(Partition::new(0), Epoch(1))]);
    assert_eq!(made.broken(), ["I6", "L1"]);
}

#[test]
fn a_place_left_while_a_patient_was_refused_it_is_unsold() {
    let made = clean().hears(asked(2, "d", slot(1), 40, refused("slot_exhausted")));
    assert_eq!(made.broken(), ["I6"]);
}

#[test]
fn an_appointment_nobody_asked_for_is_a_phantom() {
    let phantom = |patient, key| {
        let mut made = clean();
        made.evidence.rows.push(row(101, patient, key, slot(1), State::Booked));
        made.evidence.places = Places { capacity: 2, booked: 2, escrowed: 0, free: 0 };
        made.evidence.redis[1] = count(slot(1), 0, 1);
        made
    };
    assert_eq!(phantom(9, "x").broken(), ["I7"], "outside the crowd");
    assert_eq!(phantom(2, "x").broken(), ["I7"], "a key never used");
    let refused_only = phantom(2, "d").hears(asked(2, "d", slot(1), 40, refused("slot_exhausted")));
    assert_eq!(refused_only.broken(), ["I7"], "refused");
    let lost = phantom(2, "d").hears(asked(2, "d", slot(1), 40, Answer::Lost));
    assert!(lost.broken().is_empty(), "a lost answer may have been a booking");
}

#[test]
fn one_key_with_two_ids_is_seen() {
    let made = clean().hears(asked(1, "a", slot(0), 50, told(101, Status::Pending)));
    assert_eq!(made.broken(), ["I8"]);
}

#[test]
fn after_a_redis_loss_one_key_may_have_two_ids_and_one_appointment() {
    let mut made = clean().hears(asked(1, "a", slot(0), 50, told(101, Status::Pending)));
    made.history.redis_was_lost = true;
    assert_eq!(made.broken(), ["I8"], "the second id has not ended");
    let mut second = row(101, 1, "a", slot(0), State::Rejected);
    second.reason = Some(Reason::Superseded);
    made.evidence.rows.push(second);
    assert!(made.broken().is_empty());
}

#[test]
fn a_key_refused_after_it_was_given_a_booking_is_seen() {
    let made = clean().hears(asked(1, "a", slot(0), 50, refused("already_booked")));
    assert_eq!(made.broken(), ["I8"]);
    let meanwhile = clean().hears(asked(1, "a", slot(0), 12, refused("slot_exhausted")));
    assert!(meanwhile.broken().is_empty(), "asked before the answer was there");
}

#[test]
fn a_final_answer_that_changes_is_a_contradiction() {
    let made = clean().hears(asked(1, "a", slot(0), 50, told(100, Status::Rejected)));
    assert_eq!(made.broken(), ["I10"]);
    let mut cancelled = clean();
    cancelled.evidence.rows[0].state = State::Cancelled;
    cancelled.evidence.places = Places { capacity: 2, booked: 0, escrowed: 2, free: 0 };
    cancelled.evidence.redis[0] = count(slot(0), 1, 0);
    assert!(!cancelled.broken().contains(&"I10"), "a cancel is a legal transition");
    let cancelled = cancelled.hears(asked(1, "a", slot(0), 50, told(100, Status::Cancelled)));
    assert!(!cancelled.broken().contains(&"I10"), "told after it was booked");
    let revived = cancelled.hears(asked(1, "a", slot(0), 90, told(100, Status::Booked)));
    assert!(revived.broken().contains(&"I10"), "there is no way back");
}

#[test]
fn a_booking_that_is_not_found_any_more_is_a_contradiction() {
    let mut event = asked(1, "a", slot(0), 50, Answer::NotFound);
    event.ask = Ask::Status { id: BookingId::from(100) };
    assert_eq!(clean().hears(event).broken(), ["I10"]);
}

/// Gateway 1 tells two things of booking 100, one surely after the other.
fn gateway_says(first: Status, second: (Option<u8>, Status), forgot: &[Forgot]) -> Made {
    let at =
        |gateway, at, status| Event { gateway, ..asked(1, "a", slot(0), at, told(100, status)) };
    let mut made = clean();
    made.history.events = vec![at(Some(1), 10, first), at(second.0, 16, second.1)];
    made.history.forgot = forgot.to_vec();
    made
}

#[test]
fn a_gateway_that_says_less_than_before_is_forgetful() {
    use Status::{Booked, Pending, Queued};
    let is_broken = |first, second| gateway_says(first, (Some(1), second), &[]).broken() == ["I10"];
    assert!(is_broken(Queued, Pending) && is_broken(Booked, Queued) && is_broken(Booked, Pending));
    assert!(
        !is_broken(Pending, Queued) && !is_broken(Queued, Booked) && !is_broken(Queued, Queued)
    );
    let another = gateway_says(Queued, (Some(0), Pending), &[]);
    assert!(another.broken().is_empty(), "the other gateway may know less");
    let unknown = gateway_says(Queued, (None, Pending), &[]);
    assert!(unknown.broken().is_empty(), "it may have been the other one");
    let mut at_once = gateway_says(Queued, (Some(1), Pending), &[]);
    at_once.history.events[1].invoked_at = UnixMs(15);
    assert!(at_once.broken().is_empty(), "asked before the first answer was there");
}

#[test]
fn only_a_restart_or_a_loss_of_redis_in_between_excuses_a_forgetful_gateway() {
    use Status::{Booked, Pending, Queued};
    let forgot = |what, from, until| Forgot { what, from: UnixMs(from), until: UnixMs(until) };
    let is_broken = |first, what, from, until| {
        let made = gateway_says(first, (Some(1), Pending), &[forgot(what, from, until)]);
        made.broken() == ["I10"]
    };
    // Asked at 10 and 16, answered at 15 and 21.
    for what in [Forgetful::Redis, Forgetful::Gateway(1)] {
        assert!(!is_broken(Queued, what, 12, 18));
        assert!(!is_broken(Queued, what, 5, 10) && !is_broken(Queued, what, 21, 30));
        assert!(is_broken(Queued, what, 5, 9), "before the first was asked");
        assert!(is_broken(Queued, what, 22, 30), "after the second was answered");
    }
    assert!(is_broken(Queued, Forgetful::Gateway(0), 12, 18), "the other gateway");
    assert!(is_broken(Booked, Forgetful::Redis, 12, 18), "a row is not in Redis");
    assert!(!is_broken(Booked, Forgetful::Gateway(1), 12, 18));
}

#[test]
fn counters_of_redis_that_do_not_add_up_are_seen() {
    let mut made = clean();
    made.evidence.redis[0].granted = 2;
    assert_eq!(made.broken(), ["I11"]);
}

#[test]
fn what_still_moves_or_is_parked_is_seen() {
    let mut made = clean();
    made.evidence.stillness.waiting = Some(3);
    assert_eq!(made.broken(), ["L1"]);
    made.evidence.stillness.waiting = Some(0);
    made.evidence.stillness.parking = 1;
    assert_eq!(made.broken(), ["L1"]);
}

#[test]
fn what_the_ledger_finds_is_told_under_its_name() {
    let mut made = clean();
    made.evidence.ledger =
        vec![Violation { invariant: "I9", detail: "epoch 2: consumed 3 of 2".to_owned() }];
    assert_eq!(made.audit().violations(), ["I9: epoch 2: consumed 3 of 2"]);
    made.evidence.ledger[0].invariant = "I12";
    assert_eq!(made.broken(), ["DB"]);
}

#[test]
fn come_back_later_must_say_when() {
    let busy = Answer::Busy { code: "overloaded".into(), retry_after_s: None, is_definite: false };
    assert_eq!(clean().hears(asked(2, "b", slot(0), 50, busy)).broken(), ["API"]);
}

#[test]
fn many_violations_are_told_in_part() {
    let mut made = clean();
    for id in 200..230 {
        made.history.events.push(asked(2, &id.to_string(), slot(1), 40, told(id, Status::Queued)));
    }
    let audit = made.audit();
    assert_eq!((audit.lost, audit.violations().len()), (30, TOLD_MAX + 1));
}
