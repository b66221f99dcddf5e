//! Whatever Redis answers is read or refused, never a panic.

use proptest::prelude::*;
use redis::Value;

use super::world::session;
use crate::{Error, Hold, count, hold, inspection, packed, step};

const WORDS: [&str; 22] = [
    "held",
    "replayed",
    "key_reused",
    "already_booked",
    "sold_out",
    "not_open",
    "paused",
    "closed",
    "not_preheated",
    "other_epoch",
    "shut",
    "fenced",
    "done",
    "refused",
    "shell",
    "not_needed",
    "counters",
    "found",
    "open",
    "e",
    "1,2,3,4",
    "0",
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        Just(Value::Okay),
        any::<i64>().prop_map(Value::Int),
        any::<f64>().prop_map(Value::Double),
        prop::sample::select(&WORDS[..]).prop_map(|word| Value::BulkString(word.into())),
        prop::sample::select(&WORDS[..]).prop_map(|word| Value::SimpleString(word.into())),
        prop::collection::vec(any::<u8>(), 0..12).prop_map(Value::BulkString),
    ];
    leaf.prop_recursive(3, 64, 12, |inner| {
        prop::collection::vec(inner, 0..12).prop_map(Value::Array)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_reply_is_read_or_refused(value in value()) {
        let refused = |error: Option<Error>| match error {
            None | Some(Error::Refused(_)) => {}
            Some(other) => panic!("{other}"),
        };
        refused(hold::parse(value.clone()).err());
        refused(step::parse_prepared(value.clone()).err());
        refused(step::parse_step(value.clone()).err());
        refused(step::parse_frozen(value.clone(), &[session(), session()]).err());
        refused(count::parse(value.clone(), &[session()]).err());
        refused(inspection::parse(value).err());
    }

    #[test]
    fn any_text_is_read_as_counters_or_not(text in ".{0,40}|[0-9,]{0,40}") {
        let _ = packed::Counters::parse(&text);
    }
}

#[test]
fn a_reply_with_a_number_out_of_range_is_refused() {
    let reply = |left: i64| {
        let held = Value::BulkString(b"held".to_vec());
        Value::Array(vec![held, Value::Int(left), Value::Int(1), Value::Int(0)])
    };
    let held = Hold::Held { left: 5, ticket: 1, settled: 0 };
    assert_eq!(hold::parse(reply(5)).expect("is readable"), held);
    assert!(matches!(hold::parse(reply(-1)), Err(Error::Refused(_))));
    assert!(matches!(hold::parse(reply(1 << 32)), Err(Error::Refused(_))));
}
