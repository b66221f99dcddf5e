//! In the gateway and the worker.

use super::Mutant;

/// What is done where a publish has ended may then wait for Redis.
const CERTAIN_WAITS: [(&str, &str); 3] = [
    ("fn certain(app: &App", "async fn certain(app: &App"),
    (
        "return certain(&app, accepted, published),",
        "return certain(&app, accepted, published).await,",
    ),
    ("    certain(app, accepted, published)\n}", "    certain(app, accepted, published).await\n}"),
];

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "close-ignores-the-outbox",
        what: "an epoch is closed though a booking of it stands in the outbox",
        file: "booking-worker/src/reconcile/close.rs",
        edits: &[(
            "|epoch: &&Epoch| !held.contains_key(*epoch) && !held.contains_key(&Epoch::NONE);",
            "|epoch: &&Epoch| !held.contains_key(*epoch) || !held.is_empty();",
        )],
        also: &[],
        package: "booking-worker",
        suite: Some("it"),
        test: "recovery::a_restarted_redis_keeps_its_outbox_and_gets_a_new_epoch",
    },
    Mutant {
        name: "ack-before-commit",
        what: "a message is acknowledged whatever became of its bookings",
        file: "booking-worker/src/consume/reading.rs",
        edits: &[(
            "if is_done { Answer::Final } else { Answer::Later }",
            "if is_done { Answer::Final } else { Answer::Final }",
        )],
        also: &[],
        package: "booking-worker",
        suite: Some("it"),
        test: "consume::persisting_is_back_two_seconds_after_postgresql",
    },
    Mutant {
        name: "ack-of-ids-not-returned",
        what: "a booking the database said nothing of counts as done",
        file: "booking-worker/src/consume/persist.rs",
        edits: &[("None => Next::Alone,", "None => Next::Done(Answer::Final),")],
        also: &[],
        package: "booking-worker",
        suite: Some("it"),
        test: "consume::what_a_later_wave_could_not_persist_is_parked_and_not_lost",
    },
    Mutant {
        name: "sold-out-for-ever",
        what: "a remembered \"sold out\" is never asked again",
        file: "gateway/src/admission/refusals.rs",
        edits: &[
            (
                "        if at < known.good_until {",
                "        if at < known.good_until || known.refusal == Refusal::SoldOut {",
            ),
            // The second line behind it.
            (
                "if at >= known.asked_at + STALE_AFTER {",
                "if at >= known.asked_at + STALE_AFTER && known.refusal != Refusal::SoldOut {",
            ),
        ],
        also: &[],
        package: "gateway",
        suite: Some("bookings"),
        test: "book::a_place_given_back_is_sold_within_a_second_though_all_heard_sold_out",
    },
    Mutant {
        name: "refusal-never-ages",
        what: "a remembered refusal that Redis does not confirm any more is given for minutes",
        file: "gateway/src/admission/refusals.rs",
        edits: &[(
            "if at >= known.asked_at + STALE_AFTER {",
            "if at >= known.asked_at + 1_000 * STALE_AFTER {",
        )],
        also: &[],
        package: "gateway",
        suite: None,
        test: "admission::refusals::tests::a_refusal_that_redis_does_not_confirm_any_more_is_not_given_for_long",
    },
    Mutant {
        name: "final-forgotten",
        what: "who was told the end of a booking is told \"queued\" again from memory",
        file: "gateway/src/admission/accepted.rs",
        edits: &[("self.ended.get().is_some()", "false")],
        also: &[],
        package: "gateway",
        suite: Some("bookings"),
        test: "outages::without_postgresql_who_was_told_the_end_never_hears_queued_again",
    },
    Mutant {
        name: "one-id-two-epochs",
        what: "a hold that met another epoch is tried there under the same id",
        file: "gateway/src/admission/place.rs",
        edits: &[
            (
                "        // A new id for every try: one id is offered to one epoch only (G4).\n        let Some(id) = app.minter.mint(partition).await else { return Admitted::Overloaded };\n",
                "",
            ),
            (
                "    for _ in 0..=EPOCH_RETRIES_MAX {",
                "    let Some(id) = app.minter.mint(partition).await else { return Admitted::Overloaded };\n    for _ in 0..=EPOCH_RETRIES_MAX {",
            ),
        ],
        also: &[],
        package: "gateway",
        suite: Some("bookings"),
        test: "places::one_id_is_offered_to_one_epoch_only",
    },
    Mutant {
        name: "quota-given-back",
        what: "a place is given back when nothing is known of its publish",
        file: "gateway/src/admission/place.rs",
        edits: &[
            CERTAIN_WAITS[0],
            CERTAIN_WAITS[1],
            CERTAIN_WAITS[2],
            (
                "        Published::Uncertain => {}",
                "        Published::Uncertain => {\n            let _ = app.inventory.give_back(&accepted.booking).await;\n        }",
            ),
        ],
        also: &[(
            "inventory/src/outbox.rs",
            "    /// Reads one booking of the outbox.\n",
            r#"    /// Gives a place back.
    pub async fn give_back(&self, booking: &Booking) -> Result<redis::Value, Error> {
        let mut eval = redis::cmd("EVAL");
        eval.arg(
            "local left, granted, sold, release = redis.call('HGET', KEYS[1], ARGV[1]):match('^(%d+),(%d+),(%d+)(,?%d*)$')
             return redis.call('HSET', KEYS[1], ARGV[1], string.format('%d,%s,%d%s', left + 1, granted, sold - 1, release))",
        );
        eval.arg(1).arg(keys::session(booking.id.partition(), booking.slot.session()));
        self.links.query_hot(eval.arg(booking.slot.ordinal())).await
    }

    /// Reads one booking of the outbox.
"#,
        )],
        package: "gateway",
        suite: Some("bookings"),
        test: "places::a_place_whose_publish_is_unknown_is_not_sold_again",
    },
    Mutant {
        name: "outbox-deleted-on-confirm",
        what: "a booking leaves the outbox when it is confirmed, before it has its row",
        file: "gateway/src/admission/place.rs",
        edits: &[
            CERTAIN_WAITS[0],
            CERTAIN_WAITS[1],
            CERTAIN_WAITS[2],
            (
                "        Published::Certain => accepted.set_certain(),",
                "        Published::Certain => {\n            let settled = (accepted.booking.clone(), true);\n            let _ = app.inventory.settle(accepted.booking.id.partition(), &[settled]).await;\n            accepted.set_certain();\n        }",
            ),
        ],
        also: &[],
        package: "gateway",
        suite: Some("bookings"),
        test: "places::what_is_confirmed_stands_in_the_outbox_until_it_has_its_row",
    },
    Mutant {
        name: "parked-through-queue",
        what: "a parked booking is replayed by taking it out and publishing it again",
        file: "gateway/src/routes/admin/parked.rs",
        edits: &[(
            "    let replayed = app.ledger.replay_parked(id).await?;",
            "    let replayed = match app.ledger.take_parked(id).await? {\n        Some(booking) => {\n            app.publisher.publish(booking.id.partition(), booking).await;\n            let (state, reason, number) = (booking::State::Booked, None, None);\n            Replayed::Done(Outcome::Row { state, reason, number })\n        }\n        None => Replayed::NotFound,\n    };",
        )],
        also: &[(
            "ledger/src/parked.rs",
            "    /// P1: persists a parked booking and deletes its row in one transaction.\n",
            r#"    /// Takes a parked booking out.
    pub async fn take_parked(&self, id: ParkedId) -> Result<Option<Booking>, Error> {
        let body: Option<Vec<u8>> = self
            .run(move |pool| async move {
                sqlx::query_scalar("DELETE FROM parked WHERE id = $1 RETURNING body")
                    .bind(id.get())
                    .fetch_optional(&pool)
                    .await
            })
            .await?;
        Ok(body.and_then(|body| Booking::decode(&body).ok()))
    }

    /// P1: persists a parked booking and deletes its row in one transaction.
"#,
        )],
        package: "gateway",
        suite: Some("bookings"),
        test: "places::a_parked_booking_that_is_replayed_is_not_late_for_the_end_of_its_epoch",
    },
    Mutant {
        name: "relay-settles-nothing",
        what: "the relay publishes what has its row already, and never settles it",
        file: "booking-worker/src/relay.rs",
        edits: &[(
            "Some(row) if is_same(&row.booking, &entry) => {",
            "Some(row) if entry.id == BookingId::from(0) && is_same(&row.booking, &entry) => {",
        )],
        also: &[],
        package: "booking-worker",
        suite: Some("it"),
        test: "relay::an_entry_that_has_its_row_is_settled_and_not_published",
    },
    Mutant {
        name: "log-in-not-counted",
        what: "the passwords of a log-in may be tried without end",
        file: "gateway/src/routes/tokens/log_in.rs",
        edits: &[("    app.limits.admit_login(&login_hash)?;\n", "")],
        also: &[],
        package: "gateway",
        suite: Some("face"),
        test: "tokens::passwords_of_one_log_in_are_tried_a_few_times_a_minute_and_nobody_else_waits",
    },
    Mutant {
        name: "remembered-anew",
        what: "a second meeting with a booking undoes what the first made certain",
        file: "gateway/src/admission/memory.rs",
        edits: &[("known.get_or_insert(accepted)", "known.insert(accepted)")],
        also: &[],
        package: "gateway",
        suite: None,
        test: "admission::memory::tests::who_meets_a_booking_second_does_not_undo_what_the_first_made_certain",
    },
    Mutant {
        name: "barrier-taken-as-sent",
        what: "a barrier that could not be sent is waited for",
        file: "booking-worker/src/reconcile/close.rs",
        edits: &[("if !is_sent && !row.frozen {", "if row.frozen && !is_sent && !row.frozen {")],
        also: &[],
        package: "booking-worker",
        suite: Some("it"),
        test: "recovery::a_barrier_that_could_not_be_sent_is_sent_in_the_first_round_that_can",
    },
    Mutant {
        name: "places-before-their-window",
        what: "places stand in Redis before it knows when they may be sold",
        file: "booking-worker/src/reconcile/quota.rs",
        edits: &[("!self.told.windows.contains_key(&grant.release)", "grant.granted == u32::MAX")],
        also: &[],
        package: "booking-worker",
        suite: Some("it"),
        test: "reconcile::a_release_preheated_since_windows_were_read_is_on_sale_with_its_places",
    },
    Mutant {
        name: "granted-taken-as-told",
        what: "a round that failed after its grant counts as told to Redis",
        file: "booking-worker/src/reconcile/quota.rs",
        edits: &[("self.applied.take().as_ref()", "self.applied.as_ref()")],
        also: &[],
        package: "booking-worker",
        suite: Some("it"),
        test: "recovery::places_granted_in_a_round_that_failed_are_on_sale_after_the_next",
    },
    Mutant {
        name: "look-never-ages",
        what: "who won is judged by what a gateway saw before it was cut off",
        file: "gateway/src/admission/looks.rs",
        edits: &[(" && seen.at.elapsed() < STALE_AFTER;", ";")],
        also: &[],
        package: "gateway",
        suite: None,
        test: "admission::looks::tests::silence_of_an_old_look_is_no_knowledge",
    },
    Mutant {
        name: "count-older-than-the-poll",
        what: "a poll is answered by a count of changes that was asked for before it came",
        file: "gateway/src/status/watermark.rs",
        edits: &[
            ("            let round = std::mem::take(&mut *self.next());\n", ""),
            (
                "let answer = ledger.change_count().await;",
                "let answer = ledger.change_count().await; let round = std::mem::take(&mut *self.next());",
            ),
        ],
        also: &[],
        package: "gateway",
        suite: Some("bookings"),
        test: "follow::a_poll_after_another_gateways_cancel_never_says_booked",
    },
    Mutant {
        name: "work-ends-with-its-client",
        what: "a booking's work ends where its client goes away",
        file: "gateway/src/unbroken.rs",
        edits: &[("drop(runtime.spawn(work));", "drop((runtime, work));")],
        also: &[],
        package: "gateway",
        suite: None,
        test: "unbroken::tests::it_goes_on_and_is_counted_when_who_waits_leaves",
    },
    Mutant {
        name: "relay-knows-no-front",
        what: "a booking that waits in a long queue is published again",
        file: "booking-worker/src/relay.rs",
        edits: &[("!fronts.may_wait(self.partition, b.id)", "true")],
        also: &[],
        package: "booking-worker",
        suite: Some("it"),
        test: "relay::a_booking_that_a_moving_queue_has_not_come_to_is_left_alone",
    },
];
