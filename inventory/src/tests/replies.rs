//! Whatever Redis answers is read or refused, never a panic.

use proptest::prelude::*;
use redis::Value;

use super::world::session;
use crate::{Error, Hold, count, hold, inspection, packed, step};

const WORDS: [&str; 25] = [
    "judged",
    "held 1 2 3",
    "replayed 1 2 3",
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
        refused(hold::parse(value.clone(), 2).err());
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
        let texts = ["judged".to_owned(), "sold_out".to_owned(), format!("held {left} 1 0")];
        let texts = texts.map(|text| Value::BulkString(text.into_bytes()));
        hold::parse(Value::Array(texts.to_vec()), 2).expect("is readable")
    };
    let held = Hold::Held { left: 5, ticket: 1, settled: 0 };
    assert!(matches!(&reply(5)[..], [Ok(Hold::SoldOut), Ok(second)] if *second == held));
    // What is unreadable of one is read of the others.
    assert!(matches!(&reply(-1)[..], [Ok(Hold::SoldOut), Err(Error::Refused(_))]));
    assert!(matches!(&reply(1 << 32)[..], [Ok(Hold::SoldOut), Err(Error::Refused(_))]));
}

#[test]
fn a_reply_without_an_answer_for_each_is_refused() {
    let reply = Value::Array(vec![Value::BulkString(b"judged".to_vec())]);
    assert!(hold::parse(reply.clone(), 0).is_ok_and(|holds| holds.is_empty()));
    assert!(matches!(hold::parse(reply, 1), Err(Error::Refused(_))));
}
