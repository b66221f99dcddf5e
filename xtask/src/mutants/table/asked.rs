//! Which guards must be known to be held by a test, and where each is taken out.

/// A guard, and the mutants that do without it.
#[derive(Debug)]
pub(in crate::mutants) struct Asked {
    /// What is done wrong.
    pub(in crate::mutants) what: &'static str,
    /// Mutants of the real parts.
    pub(in crate::mutants) real: &'static [&'static str],
    /// Mutants of the model.
    pub(in crate::mutants) model: &'static [&'static str],
}

const fn asked(
    what: &'static str,
    real: &'static [&'static str],
    model: &'static [&'static str],
) -> Asked {
    Asked { what, real, model }
}

/// All of them. Every mutant of the real parts is for one.
pub(in crate::mutants) const ASKED: &[Asked] = &[
    asked("fence on `run_id` only", &["fence-on-run-id-only"], &["fence-on-run-id-only"]),
    asked("no fence", &["no-fence"], &["no-fence-in-hold"]),
    asked("`open` creates a ledger", &["open-creates-a-ledger"], &["open-creates-a-ledger"]),
    asked("no replay check in the hold", &["no-replay-check"], &["no-replay-check"]),
    asked("no memory within a call of holds", &["no-memory-within-a-call"], &[]),
    asked("key forgotten after a cancel", &["key-forgotten-after-cancel"], &["key-forgotten"]),
    asked("bookings of a call settled in one session", &["settled-in-one-session"], &[]),
    asked("grants added instead of cumulative", &["grants-added"], &["grants-added"]),
    asked("no check after the confirm", &["no-check-after-confirm"], &["no-check"]),
    asked("check before the publish", &["check-before-publish"], &["check-before-publish"]),
    asked(
        "check asks for \"not closed\", not \"not sealed\"",
        &["not-closed-for-not-sealed"],
        &["check-not-closed"],
    ),
    asked("barrier before the seal", &["barrier-before-seal"], &["barrier-before-seal"]),
    asked("plain barrier, no echo", &["plain-barrier"], &["plain-barrier"]),
    asked("nack with requeue", &["nack-with-requeue"], &["nack-requeues"]),
    asked(
        "consumer cancelled instead of channel closed",
        &["cancel-instead-of-close"],
        &["consumer-cancelled"],
    ),
    asked(
        "close ignores parked rows",
        &["close-ignores-parked", "close-ignores-unreadable"],
        &["close-ignores-parked"],
    ),
    asked("close ignores the outbox", &["close-ignores-the-outbox"], &["close-ignores-outbox"]),
    asked(
        "parked booking replayed through the queue",
        &["parked-through-queue"],
        &["parked-through-queue"],
    ),
    asked("rejection does not consume its unit", &["rejection-uses-no-quota"], &["rejection-free"]),
    asked("one id offered to two epochs", &["one-id-two-epochs"], &["one-id-two-epochs"]),
    asked("quota given back on an unknown publish", &["quota-given-back"], &["quota-given-back"]),
    asked(
        "outbox entry deleted on the confirm",
        &["outbox-deleted-on-confirm"],
        &["outbox-deleted-on-confirm"],
    ),
    asked("ack before the commit", &["ack-before-commit"], &["ack-before-commit"]),
    asked(
        "ack of ids the database did not return",
        &["ack-of-ids-not-returned"],
        &["ack-of-unanswered"],
    ),
    asked("no ON CONFLICT target", &["no-conflict-target"], &["no-conflict-target"]),
    asked("no CHECK", &["no-places-check"], &["no-check-constraint"]),
    asked("unique key over dead rows", &["unique-over-dead-rows"], &["key-over-dead-rows"]),
    asked(
        "batch with a returned message taken as confirmed",
        &["returned-is-confirmed"],
        &["returned-is-confirmed"],
    ),
    asked("sold-out memory never cleared", &["sold-out-for-ever"], &[]),
    asked("a long step cut off", &["long-step-cut-off"], &[]),
    asked("no rollback after release", &["no-rollback-after-release"], &[]),
    asked(
        "`x-delivery-limit` −1 before RabbitMQ 4.0",
        &["delivery-limit-on-3.10"],
        &["dead-lettered"],
    ),
    asked("remembered refusal does not age", &["refusal-never-ages"], &[]),
    asked("end of a booking forgotten", &["final-forgotten"], &[]),
    asked("relay does not settle what has its row", &["relay-settles-nothing"], &[]),
    asked("two sessions of a doctor made at once overlap", &["doctor-not-locked"], &[]),
    asked("passwords tried without end", &["log-in-not-counted"], &[]),
    asked("certainty of a booking undone by a second meeting", &["remembered-anew"], &[]),
    asked("barrier taken as sent that was not", &["barrier-taken-as-sent"], &[]),
    asked("places in Redis before their window", &["places-before-their-window"], &[]),
    asked("places granted that Redis is never told of", &["granted-taken-as-told"], &[]),
    asked("winners judged by an old look", &["look-never-ages"], &[]),
    asked("changes of bookings not counted", &["changes-not-counted"], &[]),
    asked("counter of changes locked before the commit", &["counter-taken-early"], &[]),
    asked("count of changes read after its rows", &["row-older-than-its-count"], &[]),
    asked("poll answered by a count from before it", &["count-older-than-the-poll"], &[]),
    asked("work ends with its client", &["work-ends-with-its-client"], &[]),
    asked("waiting bookings published again", &["relay-knows-no-front"], &[]),
    asked("booking lapses by an empty Redis", &[], &["lapse-by-empty-redis"]),
    asked("booking lapses while older epochs are open", &[], &["lapse-too-early"]),
    asked("two reconcilers open an epoch each", &[], &["open-does-not-compare"]),
    asked("one id twice in a statement", &[], &["id-twice-in-a-wave"]),
];
