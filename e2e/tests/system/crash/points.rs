//! Every point, and what is under way when a program dies there: one test each.

use anyhow::Result;

use super::Again::{Asked, Recovering};
use super::Case;
use super::Dies::{Gateway, Worker};
use super::provocation::Provocation::{
    Booking, Bookings, Cancel, Close, CloseAgain, Flush, HeldAlone, Replay, Unsettled,
};

macro_rules! cases {
    ($($test:ident: $dies:ident at $point:literal, $again:ident, $provocation:ident, $standing:literal;)*) => {
        $(
            #[tokio::test]
            async fn $test() -> Result<()> {
                let (dies, again, provocation) = ($dies, $again, $provocation);
                Case { point: $point, dies, again, provocation, standing: $standing }.run().await
            }
        )*
    };
}

cases! {
    a_gateway_dies_with_a_place_held: Gateway at "gateway.held", Asked, Booking,
        "held in Redis, not published";
    a_gateway_dies_with_a_booking_sent: Gateway at "publish.sent", Asked, Booking,
        "published, not confirmed";
    a_gateway_dies_with_a_booking_confirmed: Gateway at "gateway.confirmed", Asked, Booking,
        "confirmed, the epoch not checked";
    a_gateway_dies_with_the_epoch_checked: Gateway at "gateway.checked", Asked, Booking,
        "checked, nobody told in the program";
    a_gateway_dies_about_to_answer: Gateway at "gateway.answering", Asked, Booking,
        "certain, the patient not told";
    a_gateway_dies_with_a_cancel_committed: Gateway at "gateway.cancelled", Asked, Cancel,
        "cancelled in PostgreSQL, Redis not told";
    a_gateway_dies_with_a_replay_committed: Gateway at "gateway.parked_replayed", Asked, Replay,
        "persisted and no longer parked, the admin not told";

    a_worker_dies_before_the_statement: Worker at "worker.persisting", Recovering, Booking,
        "delivered, no row";
    a_worker_dies_after_the_commit: Worker at "worker.persisted", Recovering, Booking,
        "the row is there, the message not acknowledged";
    a_worker_dies_about_to_acknowledge: Worker at "consumer.acking", Recovering, Booking,
        "decided, not acknowledged";
    a_worker_dies_between_two_acknowledgements: Worker at "consumer.acked", Recovering, Bookings,
        "one message acknowledged, the next not";
    a_worker_dies_about_to_settle: Worker at "worker.settling", Recovering, Booking,
        "the row is there, Redis not told";
    a_worker_dies_with_redis_settled: Worker at "worker.settled", Recovering, Booking,
        "Redis told of the row";
    a_worker_dies_with_an_echo_sent: Worker at "consumer.echoed", Recovering, Flush,
        "the barrier echoed, not acknowledged";
    a_worker_dies_with_a_drained_queue_recorded: Worker at "consumer.drained", Recovering, Flush,
        "drained is recorded, the echo not acknowledged";

    a_relay_dies_about_to_publish: Worker at "relay.publishing", Recovering, HeldAlone,
        "in the outbox alone";
    a_relay_dies_with_a_booking_sent: Worker at "publish.sent", Recovering, HeldAlone,
        "published by the relay, not confirmed";
    a_relay_dies_with_a_booking_confirmed: Worker at "relay.confirmed", Recovering, HeldAlone,
        "published by the relay, which does not know it";
    a_relay_dies_about_to_settle: Worker at "relay.settling", Recovering, Unsettled,
        "the row is there, the outbox still has the entry";
    a_relay_dies_with_an_entry_settled: Worker at "relay.settled", Recovering, Unsettled,
        "the entry is gone from the outbox";

    a_reconciler_dies_with_a_shell_prepared: Worker at "reconcile.prepared", Recovering, Flush,
        "a shell in Redis, PostgreSQL not told";
    a_reconciler_dies_with_an_epoch_recorded: Worker at "reconcile.recorded", Recovering, Flush,
        "the epoch open in PostgreSQL, a shell in Redis";
    a_reconciler_dies_with_a_ledger_opened: Worker at "reconcile.opened", Recovering, Flush,
        "the ledger open in Redis, without quota";
    a_reconciler_dies_with_quota_granted: Worker at "reconcile.granted", Recovering, Cancel,
        "topped up in PostgreSQL, not applied in Redis";
    a_reconciler_dies_with_a_ledger_frozen: Worker at "reconcile.frozen", Recovering, Close,
        "frozen in Redis, PostgreSQL not told";
    a_reconciler_dies_with_a_freeze_recorded: Worker at "reconcile.freeze_recorded", Asked, CloseAgain,
        "frozen and sealed, no epoch after it";
    a_reconciler_dies_with_an_epoch_sealed: Worker at "reconcile.sealed", Recovering, Flush,
        "sealed, no barrier";
    a_reconciler_dies_with_a_barrier_sent: Worker at "reconcile.barrier_sent", Recovering, Flush,
        "the barrier sent, not drained";
    a_reconciler_dies_with_a_drained_epoch_not_closed: Worker at "reconcile.closing", Recovering, Flush,
        "drained, not closed";
    a_reconciler_dies_with_an_epoch_closed: Worker at "reconcile.closed", Recovering, Flush,
        "closed, its unused quota not granted again";
}
