//! What is to happen, as it is written in `SLOTRUSH_FAILPOINTS`.
//!
//! Entries are separated by `;`, each is a name and what happens there:
//!
//! | entry | means |
//! |---|---|
//! | `gateway.held=kill` | SIGKILL to itself when the point is passed; `kill*3`: the third time |
//! | `gateway.held=stop` | SIGSTOP to itself; `stop*3` |
//! | `gateway.held=pause(200)` | this task alone waits 200 ms; `pause(200)*3` |
//! | `gateway.held=pause(200)*each` | the same, each time the point is passed |
//! | `publish.twice=20%` | happens with this probability |
//! | `clock.offset_ms=-5000` | an amount |
//!
//! `@path` names a file with such entries, one per line or separated by `;`. It is read again each
//! time, so that a test can change its mind; as long as there is no such file nothing happens.

use std::collections::BTreeMap;
use std::time::Duration;

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Kill,
    Stop,
    Pause(Duration),
}

/// At which passing of a point it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Nth(u64),
    Each,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Act(Action, When),
    /// In percent.
    Chance(u8),
    Amount(i64),
}

pub(crate) type Plan = BTreeMap<String, Entry>;

/// Reads a plan; the error is the entry that is none.
pub(crate) fn parse(text: &str) -> Result<Plan, String> {
    let entries = text.split([';', '\n']).map(str::trim).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            let read = entry.split_once('=').and_then(|(name, value)| {
                Some((name.trim().to_owned(), parse_entry(value.trim())?))
            });
            read.ok_or_else(|| entry.to_owned())
        })
        .collect()
}

fn parse_entry(value: &str) -> Option<Entry> {
    if let Some(percent) = value.strip_suffix('%') {
        return percent.parse().ok().filter(|percent| *percent <= 100).map(Entry::Chance);
    }
    if let Ok(amount) = value.parse() {
        return Some(Entry::Amount(amount));
    }
    let (action, when) = match value.split_once('*') {
        Some((action, "each")) => (action, When::Each),
        Some((action, nth)) => (action, When::Nth(nth.parse().ok().filter(|nth| *nth > 0)?)),
        None => (value, When::Nth(1)),
    };
    let action = match action {
        "kill" => Action::Kill,
        "stop" => Action::Stop,
        _ => {
            let ms = action.strip_prefix("pause(")?.strip_suffix(')')?;
            Action::Pause(Duration::from_millis(ms.parse().ok()?))
        }
    };
    Some(Entry::Act(action, when))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_what_happens_where() {
        let text = "a.b=kill; c=stop*3\nd=pause(200);e=pause(7)*each;publish.twice=20%;clock.offset_ms=-5000;\n";
        let plan = parse(text).expect("a plan");
        let expected = [
            ("a.b", Entry::Act(Action::Kill, When::Nth(1))),
            ("c", Entry::Act(Action::Stop, When::Nth(3))),
            ("clock.offset_ms", Entry::Amount(-5000)),
            ("d", Entry::Act(Action::Pause(Duration::from_millis(200)), When::Nth(1))),
            ("e", Entry::Act(Action::Pause(Duration::from_millis(7)), When::Each)),
            ("publish.twice", Entry::Chance(20)),
        ];
        assert_eq!(plan.len(), expected.len());
        for (name, entry) in expected {
            assert_eq!(plan.get(name), Some(&entry), "{name}");
        }
        assert_eq!(parse(""), Ok(Plan::new()));
    }

    #[test]
    fn what_is_no_entry_is_named() {
        for wrong in ["a", "a=die", "a=kill*0", "a=pause(x)", "a=101%", "a=kill*"] {
            assert_eq!(parse(&format!("b=kill;{wrong}")), Err(wrong.to_owned()));
        }
    }
}
