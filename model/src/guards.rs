//! The protocol's guards, each of which can be taken out to see what breaks.

/// Declares the guards once: field, and what the protocol does without it.
macro_rules! guards {
    ($($(#[$doc:meta])+ $name:ident => $without:literal;)+) => {
        /// Which guards stand. All of them do, unless a mutant takes one out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Guards {
            $($(#[$doc])+ pub $name: bool,)+
        }

        impl Default for Guards {
            fn default() -> Self {
                Self { $($name: true,)+ }
            }
        }

        impl Guards {
            /// Every guard's name, with what the protocol does without it.
            pub const ALL: &'static [(&'static str, &'static str)] =
                &[$((stringify!($name), $without),)+];

            /// Takes the named guard out; false if there is none of that name.
            pub fn take_out(&mut self, name: &str) -> bool {
                match name {
                    $(stringify!($name) => self.$name = false,)+
                    _ => return false,
                }
                true
            }
        }
    };
}

guards! {
    /// A term is compared by its `run_id`.
    fence_run_id => "a restarted Redis passes for the one before";
    /// A term is compared by its `master_replid`.
    fence_replid => "fence on run_id only";
    /// A hold compares the ledger's term with the server's.
    fence_hold => "no fence in the hold";
    /// R3 opens only the shell with its own nonce.
    open_needs_shell => "open creates a ledger where there is none";
    /// R4 tells the sum that was ever granted, and R5 raises to it.
    grants_cumulative => "R4 tells what it has just granted, and R5 adds it";
    /// G1 gives a patient who is known the first answer.
    hold_replays => "no replay check in the hold";
    /// W4 keeps key and id of a booking that died.
    key_kept => "the key is forgotten after a cancel";
    /// G3 is made at all.
    check => "no check of the epoch before queued";
    /// G3 is made after the confirm.
    check_after_confirm => "the check is made before the publish";
    /// G3 asks for not sealed.
    check_not_sealed => "the check asks for not closed";
    /// G2 takes a returned message for not sent.
    returned_is_unknown => "a batch with a returned message is taken as confirmed";
    /// G2 gives no quota back.
    unknown_keeps_quota => "quota is given back on an unknown publish";
    /// G4: one id is offered to one epoch.
    one_epoch_per_id => "a hold is tried again under the same id";
    /// Y1 and the gateway leave an outbox entry until its row stands.
    outbox_until_row => "the outbox entry is deleted on the confirm";
    /// R8 comes after the seal.
    barrier_after_seal => "the barrier is sent before the seal";
    /// W5, W6: a barrier counts when its echo came to the same channel.
    barrier_echoed => "a plain barrier, no echo";
    /// Nothing is put back in the queue by a nack.
    no_requeue => "nack with requeue";
    /// The broker is given no reason to move a message to the parking queue.
    no_dead_letters => "messages are dead-lettered past the barrier";
    /// Hand over by closing the channel.
    close_hands_over => "the consumer is cancelled with messages unacknowledged";
    /// R9 minds parked bookings.
    close_minds_parked => "close ignores parked rows";
    /// R9 minds the outbox.
    close_minds_outbox => "close ignores the outbox";
    /// P1 is one transaction.
    parked_replayed_in_place => "a parked booking is replayed through the queue";
    /// S1 believes only an open ledger on its own term.
    lapse_needs_ledger => "a booking lapses by what an empty Redis shows";
    /// S1 waits for every older epoch.
    lapse_waits => "a booking lapses while older epochs are not closed";
    /// R2 compares the current epoch.
    open_compares => "two reconcilers open an epoch each";
    /// W1: a rejection uses its unit.
    rejection_consumes => "a rejection does not consume its unit";
    /// W3 comes after W1's commit.
    ack_after_commit => "ack before the commit";
    /// W3 takes only what the database returned.
    ack_what_returned => "ack of ids the database did not return";
    /// The unique key of patient and key covers rows that are not rejected.
    key_unique_standing => "the unique key covers dead rows";
    /// A wave holds no patient twice, and a conflict is one of the id.
    conflict_target => "no conflict target: any conflict counts as done";
    /// A wave holds no id twice.
    ids_once_in_wave => "one id twice in a statement";
    /// CHECK constraints on slot and allotment.
    checks => "no CHECK";
}
