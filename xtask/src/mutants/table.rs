//! The mutants of the real parts: Lua, SQL and programs. Those of the protocol are in `model`.
//!
//! A text to replace must be in its file exactly once: a fast test sees to it, so that the table
//! follows the code.

/// A guard taken out, and the test that must fail then.
#[derive(Debug)]
pub(super) struct Mutant {
    /// Its name on the command line.
    pub(super) name: &'static str,
    /// What is done to the system.
    pub(super) what: &'static str,
    /// The file.
    pub(super) file: &'static str,
    /// What is replaced by what, one after the other.
    pub(super) edits: &'static [(&'static str, &'static str)],
    /// The package whose test catches it.
    pub(super) package: &'static str,
    /// The test binary; `None` for the tests beside the code.
    pub(super) suite: Option<&'static str>,
    /// The test.
    pub(super) test: &'static str,
}

/// All of them, by the part they are in.
pub(super) const MUTANTS: &[Mutant] = &[
    // Redis.
    Mutant {
        name: "fence-on-run-id-only",
        what: "a hold is fenced on `run_id` alone",
        file: "scripts/lua/hold.lua",
        edits: &[(
            "if replication:match('master_replid:(%x+)') ~= ledger[4] then return {'fenced'} end",
            "",
        )],
        package: "inventory",
        suite: None,
        test: "tests::terms::a_failback_to_the_first_primary_is_fenced",
    },
    Mutant {
        name: "no-fence",
        what: "a hold is not fenced",
        file: "scripts/lua/hold.lua",
        edits: &[
            (
                "if redis.call('INFO', 'server'):match('run_id:(%x+)') ~= ledger[3] then return {'fenced'} end",
                "",
            ),
            (
                "if replication:match('master_replid:(%x+)') ~= ledger[4] then return {'fenced'} end",
                "",
            ),
        ],
        package: "inventory",
        suite: None,
        test: "tests::terms::a_restarted_redis_is_fenced_until_the_next_epoch",
    },
    Mutant {
        name: "open-creates-a-ledger",
        what: "`open` makes a ledger where there is none",
        file: "scripts/lua/open.lua",
        edits: &[
            (
                "if ledger[3] ~= ARGV[4] then return",
                "if ledger[3] and ledger[3] ~= ARGV[4] then return",
            ),
            (
                "if ledger[2] ~= 'shell' then return",
                "if ledger[2] and ledger[2] ~= 'shell' then return",
            ),
        ],
        package: "inventory",
        suite: None,
        test: "tests::steps::open_never_creates_a_ledger",
    },
    Mutant {
        name: "no-replay-check",
        what: "a hold does not look whether the patient is known",
        file: "scripts/lua/hold.lua",
        edits: &[("if known then", "if false then")],
        package: "inventory",
        suite: None,
        test: "tests::holds::a_second_click_gets_the_first_answer_and_takes_nothing",
    },
    Mutant {
        name: "key-forgotten-after-cancel",
        what: "Redis forgets a booking that was given back, and its key",
        file: "scripts/lua/settle.lua",
        edits: &[(
            "if not is_live then redis.call('HSET', KEYS[2], patient, entry) end",
            "if not is_live then redis.call('HDEL', KEYS[2], patient) end",
        )],
        package: "inventory",
        suite: None,
        test: "tests::holds::a_cancelled_key_replayed_does_not_book_again_but_a_new_key_does",
    },
    Mutant {
        name: "grants-added",
        what: "a grant is added, not raised to",
        file: "scripts/lua/apply.lua",
        edits: &[("local more = ARGV[i + 1] - granted", "local more = tonumber(ARGV[i + 1])")],
        package: "inventory",
        suite: None,
        test: "tests::steps::grants_are_cumulative_in_any_order",
    },
    // PostgreSQL.
    Mutant {
        name: "not-closed-for-not-sealed",
        what: "the check after the confirm is content with an epoch that is not closed",
        file: "ledger/src/epoch.rs",
        edits: &[(
            "coalesce(epoch.state = 'open', false)",
            "coalesce(epoch.state <> 'closed', false)",
        )],
        package: "ledger",
        suite: Some("steps"),
        test: "epochs::queued_may_be_said_only_under_an_open_epoch",
    },
    Mutant {
        name: "close-ignores-parked",
        what: "an epoch is closed though something of it is parked",
        file: "migrations/0002_steps.sql",
        edits: &[(
            "IF EXISTS (SELECT FROM parked WHERE partition = p_partition AND e = p_e) THEN",
            "IF false THEN",
        )],
        package: "ledger",
        suite: Some("steps"),
        test: "parked::what_is_parked_of_an_epoch_or_might_be_keeps_it_from_closing",
    },
    Mutant {
        name: "close-ignores-unreadable",
        what: "an epoch is closed though an unreadable message may be of it",
        file: "migrations/0002_steps.sql",
        edits: &[(
            "IF EXISTS (SELECT FROM parked WHERE partition = p_partition AND e IS NULL) THEN",
            "IF false THEN",
        )],
        package: "ledger",
        suite: Some("steps"),
        test: "parked::what_is_parked_of_an_epoch_or_might_be_keeps_it_from_closing",
    },
    Mutant {
        name: "barrier-before-seal",
        what: "an epoch that is still open is noted as drained",
        file: "migrations/0002_steps.sql",
        edits: &[(
            "WHERE partition = p_partition AND e = p_e AND state <> 'open';",
            "WHERE partition = p_partition AND e = p_e;",
        )],
        package: "ledger",
        suite: Some("steps"),
        test: "epochs::an_open_epoch_has_no_barrier_to_come_through",
    },
    Mutant {
        name: "rejection-uses-no-quota",
        what: "a rejected booking does not use the place Redis sold it",
        file: "migrations/0002_steps.sql",
        edits: &[(
            "            SELECT b.slot_id, b.version, count(*) AS n, count(*) FILTER",
            "            SELECT b.slot_id, b.version, count(*) FILTER (WHERE b.reason IS NULL) AS n, count(*) FILTER",
        )],
        package: "ledger",
        suite: Some("steps"),
        test: "persist::a_rejected_booking_uses_its_quota_but_no_place_and_no_number",
    },
    Mutant {
        name: "no-conflict-target",
        what: "a conflict with any key is taken for a row that is there already",
        file: "migrations/0002_steps.sql",
        edits: &[
            (
                "        ORDER BY n.at\n        ON CONFLICT (id) DO NOTHING",
                "        ORDER BY n.at\n        ON CONFLICT DO NOTHING",
            ),
            ("IF inserted_rows < fresh THEN", "IF false THEN"),
        ],
        package: "ledger",
        suite: Some("steps"),
        test: "races::an_id_that_gets_its_row_between_judging_and_writing_keeps_that_row",
    },
    Mutant {
        name: "no-places-check",
        what: "a slot may hold more than its capacity",
        file: "migrations/0001_tables.sql",
        edits: &[(
            "CHECK (booked >= 0 AND escrowed >= 0 AND booked + escrowed <= capacity)",
            "CHECK (true)",
        )],
        package: "ledger",
        suite: Some("steps"),
        test: "persist::a_forged_grant_cannot_oversell",
    },
    Mutant {
        name: "unique-over-dead-rows",
        what: "a dead booking keeps its patient out of the session",
        file: "migrations/0001_tables.sql",
        edits: &[(
            "ON booking (session_id, patient_id)\n    WHERE state = 'booked';",
            "ON booking (session_id, patient_id);",
        )],
        package: "ledger",
        suite: Some("steps"),
        test: "rules::a_rejected_booking_holds_neither_key_nor_session",
    },
    Mutant {
        name: "no-rollback-after-release",
        what: "a connection comes back to the pool with a transaction open",
        file: "ledger/src/pool.rs",
        edits: &[(
            "sqlx::raw_sql(\"BEGIN; ROLLBACK\").execute(connection).await?;",
            "let _ = connection;",
        )],
        package: "ledger",
        suite: None,
        test: "pool::tests::a_transaction_left_open_does_not_reach_the_next_user_of_its_connection",
    },
    // RabbitMQ.
    Mutant {
        name: "plain-barrier",
        what: "a barrier drains its epoch without an echo of this consumer's own",
        file: "broker/src/consumer.rs",
        edits: &[(
            "if barrier.echo_of.as_deref() == Some(tap.life()) {",
            "if barrier.epoch == barrier.epoch {",
        )],
        package: "broker",
        suite: Some("real"),
        test: "barriers::an_echo_of_another_life_is_echoed_again_and_only_the_own_one_drains",
    },
    Mutant {
        name: "nack-with-requeue",
        what: "what can't be persisted yet goes back to the queue",
        file: "broker/src/consumer.rs",
        edits: &[(
            "items.push(item);\n                    ackers.push(acker);",
            "let options = lapin::options::BasicNackOptions { multiple: false, requeue: true };\n\
                 let _ = (item, acker.nack(options).await);",
        )],
        package: "broker",
        suite: Some("real"),
        test: "consuming::a_refused_batch_is_asked_again_and_holds_back_what_is_behind_it",
    },
    Mutant {
        name: "cancel-instead-of-close",
        what: "a consumer that hands over is cancelled, and what it holds stays unacknowledged for a while",
        file: "broker/src/tap.rs",
        edits: &[(
            "let _ = within(\"closing\", STEP_MAX, self.channel.close(200, \"OK\".into())).await;\n        self.wire.close().await;",
            "let tag = self.deliveries.tag();\n\
             let options = lapin::options::BasicCancelOptions::default();\n\
             let _ = self.channel.basic_cancel(tag, options).await;\n\
             tokio::time::sleep(std::time::Duration::from_secs(3)).await;\n\
             self.wire.close().await;",
        )],
        package: "broker",
        suite: Some("real"),
        test: "barriers::a_shutdown_while_a_batch_is_refused_hands_over_without_overtaking",
    },
    Mutant {
        name: "returned-is-confirmed",
        what: "a message that no queue took counts as confirmed",
        file: "broker/src/courier.rs",
        edits: &[(
            "Confirmation::Ack(Some(_)) => Err(Doubt::Returned)",
            "Confirmation::Ack(Some(_)) => Ok(())",
        )],
        package: "broker",
        suite: Some("real"),
        test: "publishing::a_booking_no_queue_takes_is_uncertain_and_the_queue_comes_back",
    },
    Mutant {
        name: "no-check-after-confirm",
        what: "\"queued\" is said without looking at the epoch",
        file: "broker/src/lane.rs",
        edits: &[(
            "let published = if fit && certain { Published::Certain } else { Published::Uncertain };",
            "let _ = (fit, certain);\n            let published = Published::Certain;",
        )],
        package: "broker",
        suite: Some("real"),
        test: "publishing::a_confirmed_booking_is_certain_only_as_far_as_its_epoch_is_certified",
    },
    Mutant {
        name: "delivery-limit-on-3.10",
        what: "`x-delivery-limit` is −1 before RabbitMQ 4.0",
        file: "broker/src/topology.rs",
        edits: &[("if version.major >= LIMITED_SINCE {", "if version.major > 0 {")],
        package: "broker",
        suite: Some("real"),
        test: "consuming::what_a_dead_worker_did_not_acknowledge_comes_again",
    },
    // Programs.
    Mutant {
        name: "close-ignores-the-outbox",
        what: "an epoch is closed though a booking of it stands in the outbox",
        file: "booking-worker/src/reconcile/close.rs",
        edits: &[(
            "|epoch: &&Epoch| !held.contains_key(*epoch) && !held.contains_key(&Epoch::NONE);",
            "|epoch: &&Epoch| !held.contains_key(*epoch) || !held.is_empty();",
        )],
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
        package: "booking-worker",
        suite: Some("it"),
        test: "consume::persisting_is_back_two_seconds_after_postgresql",
    },
    Mutant {
        name: "ack-of-ids-not-returned",
        what: "a booking the database said nothing of counts as done",
        file: "booking-worker/src/consume/persist.rs",
        edits: &[("None => Next::Alone,", "None => Next::Done(Answer::Final),")],
        package: "booking-worker",
        suite: Some("it"),
        test: "consume::what_a_later_wave_could_not_persist_is_parked_and_not_lost",
    },
    Mutant {
        name: "sold-out-for-ever",
        what: "a remembered \"sold out\" is never asked again",
        file: "gateway/src/admission/refusals.rs",
        edits: &[(
            "        if at < known.good_until {",
            "        if at < known.good_until || known.refusal == Refusal::SoldOut {",
        )],
        package: "gateway",
        suite: Some("bookings"),
        test: "book::a_place_given_back_is_sold_within_a_second_though_all_heard_sold_out",
    },
];
