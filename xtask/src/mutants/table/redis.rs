//! In the Lua of the ledger.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "fence-on-run-id-only",
        what: "a hold is fenced on `run_id` alone",
        file: "scripts/lua/hold.lua",
        edits: &[("or replication:match('master_replid:(%x+)') ~= ledger[4]", "")],
        also: &[],
        package: "inventory",
        suite: None,
        test: "tests::terms::a_failback_to_the_first_primary_is_fenced",
    },
    Mutant {
        name: "no-fence",
        what: "a hold is not fenced",
        file: "scripts/lua/hold.lua",
        edits: &[
            ("server:match('run_id:(%x+)') ~= ledger[3]", "false"),
            ("or replication:match('master_replid:(%x+)') ~= ledger[4]", ""),
        ],
        also: &[],
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
        also: &[],
        package: "inventory",
        suite: None,
        test: "tests::steps::open_never_creates_a_ledger",
    },
    Mutant {
        name: "no-replay-check",
        what: "a hold does not look whether the patient is known",
        file: "scripts/lua/hold.lua",
        edits: &[("if first then", "if false then")],
        also: &[],
        package: "inventory",
        suite: None,
        test: "tests::holds::a_second_click_gets_the_first_answer_and_takes_nothing",
    },
    Mutant {
        name: "no-memory-within-a-call",
        what: "a call of holds does not know whom it just gave a place",
        file: "scripts/lua/hold.lua",
        edits: &[("known[who .. ' ' .. patient] or redis.call", "redis.call")],
        also: &[],
        package: "inventory",
        suite: None,
        test: "tests::sharing::each_booking_of_a_call_gets_its_own_answer_in_order",
    },
    Mutant {
        name: "key-forgotten-after-cancel",
        what: "Redis forgets a booking that was given back, and its key",
        file: "scripts/lua/settle.lua",
        edits: &[(
            "if not is_live then redis.call('HSET', who, patient, entry) end",
            "if not is_live then redis.call('HDEL', who, patient) end",
        )],
        also: &[],
        package: "inventory",
        suite: None,
        test: "tests::holds::a_cancelled_key_replayed_does_not_book_again_but_a_new_key_does",
    },
    Mutant {
        name: "grants-added",
        what: "a grant is added, not raised to",
        file: "scripts/lua/apply.lua",
        edits: &[("local more = ARGV[i + 1] - granted", "local more = tonumber(ARGV[i + 1])")],
        also: &[],
        package: "inventory",
        suite: None,
        test: "tests::steps::grants_are_cumulative_in_any_order",
    },
];
