//! The protocol with a guard taken out, and what catches the loss.

use crate::Guards;
use crate::protocol::Protocol;
use crate::scope::Scope;
use crate::scopes;

/// A protocol without some of its guards.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// Its name.
    pub name: &'static str,
    /// The guards that are missing.
    pub without: &'static [&'static str],
    /// The scope in which that shows.
    pub scope: &'static str,
    /// What is broken first.
    pub property: &'static str,
}

const fn mutant(
    name: &'static str,
    without: &'static [&'static str],
    scope: &'static str,
    property: &'static str,
) -> Mutant {
    Mutant { name, without, scope, property }
}

/// Every mutant.
pub const ALL: &[Mutant] = &[
    mutant("fence-on-run-id-only", &["fence_replid"], "failback", "I6"),
    mutant("no-fence-in-hold", &["fence_hold"], "failover", "CHECK"),
    mutant("open-creates-a-ledger", &["open_needs_shell"], "flush", "I6"),
    mutant("grants-added", &["grants_cumulative"], "top-ups", "I6"),
    mutant("no-replay-check", &["hold_replays"], "retries", "I8"),
    mutant("key-forgotten", &["key_kept"], "retries", "I8"),
    mutant("no-check", &["check"], "flush", "I4"),
    mutant("check-before-publish", &["check_after_confirm"], "flush", "I4"),
    mutant("check-not-closed", &["check_not_sealed"], "flush", "I4"),
    mutant("returned-is-confirmed", &["returned_is_unknown"], "returned", "I3"),
    mutant("quota-given-back", &["unknown_keeps_quota"], "plain", "CHECK"),
    mutant("one-id-two-epochs", &["one_epoch_per_id"], "lapse", "I6"),
    mutant("outbox-deleted-on-confirm", &["outbox_until_row"], "queue-lost", "I3"),
    mutant("barrier-before-seal", &["barrier_after_seal"], "flush", "I4"),
    mutant("plain-barrier", &["barrier_echoed"], "scrambled", "I4"),
    mutant("nack-requeues", &["no_requeue"], "flush", "I4"),
    mutant("dead-lettered", &["no_dead_letters"], "flush", "I4"),
    mutant("consumer-cancelled", &["close_hands_over"], "flush", "I4"),
    mutant("close-ignores-parked", &["close_minds_parked"], "parked", "I4"),
    mutant("close-ignores-outbox", &["close_minds_outbox"], "queue-lost", "KEPT"),
    mutant("parked-through-queue", &["parked_replayed_in_place"], "parked", "I4"),
    mutant("lapse-by-empty-redis", &["lapse_needs_ledger"], "lapse", "I4"),
    mutant("lapse-too-early", &["lapse_waits"], "lapse", "I4"),
    mutant("open-does-not-compare", &["open_compares"], "openers", "I9"),
    mutant("rejection-free", &["rejection_consumes"], "limits", "I9"),
    mutant("ack-before-commit", &["ack_after_commit"], "flush", "I3"),
    mutant("ack-of-unanswered", &["ack_what_returned"], "silent", "I3"),
    mutant("key-over-dead-rows", &["key_unique_standing"], "lapse", "I6"),
    mutant("no-conflict-target", &["conflict_target"], "two-keys-flush", "I3"),
    mutant("id-twice-in-a-wave", &["ids_once_in_wave"], "plain", "I2"),
    mutant("no-check-constraint", &["checks", "unknown_keeps_quota"], "plain", "I1"),
];

/// Guards whose loss alone breaks nothing here, and why they are kept.
pub const SECOND_LINES: [(&str, &str); 1] = [(
    "fence_run_id",
    "master_replid changes whenever run_id does, and a replica is told by its role",
)];

impl Mutant {
    /// The model of it.
    ///
    /// # Panics
    /// If it names a scope or guard that there is not.
    pub fn protocol(&self) -> Protocol {
        let mut guards = Guards::default();
        for name in self.without {
            assert!(guards.take_out(name), "{}: no guard {name}", self.name);
        }
        Protocol { scope: self.scope(), guards }
    }

    /// Its scope.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn scope(&self) -> Scope {
        let found = scopes::ALL.iter().find(|scope| scope.name == self.scope);
        *found.expect("a mutant names a scope that there is")
    }
}
