//! In what speaks AMQP.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "plain-barrier",
        what: "a barrier drains its epoch without an echo of this consumer's own",
        file: "broker/src/consumer.rs",
        edits: &[(
            "if barrier.echo_of.as_deref() == Some(tap.life()) {",
            "if barrier.epoch == barrier.epoch {",
        )],
        also: &[],
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
        also: &[],
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
        also: &[],
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
        also: &[],
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
        also: &[],
        package: "broker",
        suite: Some("real"),
        test: "publishing::a_confirmed_booking_is_certain_only_as_far_as_its_epoch_is_certified",
    },
    Mutant {
        name: "delivery-limit-on-3.10",
        what: "`x-delivery-limit` is −1 before RabbitMQ 4.0",
        file: "broker/src/topology.rs",
        edits: &[("if version.major >= LIMITED_SINCE {", "if version.major > 0 {")],
        also: &[],
        package: "broker",
        suite: None,
        test: "topology::tests::the_delivery_limit_is_lifted_only_where_there_is_one",
    },
    Mutant {
        name: "check-before-publish",
        what: "the epoch is looked at before the publish, not after the confirm",
        file: "broker/src/lane.rs",
        edits: &[
            (
                "        let mut delivered = self.deliver(&envelope).await;",
                "        let asked = entries.iter().map(|e| (self.backlog.partition, e.booking.epoch)).collect();\n\
                 let early = match &self.road.certify {\n\
                     Some(certify) => certify(asked).await,\n\
                     None => vec![true; entries.len()],\n\
                 };\n\
                 let early: Certify = Arc::new(move |_| {\n\
                     let early = early.clone();\n\
                     Box::pin(async move { early })\n\
                 });\n\
                 let mut delivered = self.deliver(&envelope).await;",
            ),
            (
                "answer(self.backlog.partition, entries, self.road.certify.as_ref());",
                "answer(self.backlog.partition, entries, Some(&early));",
            ),
        ],
        also: &[],
        package: "broker",
        suite: Some("real"),
        test: "publishing::an_epoch_is_asked_for_when_its_booking_is_in_the_queue_and_not_before",
    },
];
