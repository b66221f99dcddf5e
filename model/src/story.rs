//! A trace told step by step, with what each step brought about.

use crate::action::Action;
use crate::explore::Violation;
use crate::protocol::Protocol;
use crate::state::{EpochState, Request, Shelf, State, bit};

impl Protocol {
    /// Tells a violation, one step per line.
    pub fn story(&self, violation: &Violation) -> Vec<String> {
        let mut state = self.initial();
        let mut lines = Vec::new();
        for action in &violation.trace {
            lines.push(self.tell(&mut state, *action, lines.len() + 1));
        }
        if self.broken(&state).is_none() {
            lines.push(
                "    -- nobody at a gateway takes another step, nothing more goes wrong".into(),
            );
            let rest = self.completion(&state);
            state = self.abandoned(&state);
            let first = violation.trace.len() + 1;
            for (number, action) in (first..).zip(rest) {
                lines.push(self.tell(&mut state, action, number));
                state.budget = crate::scope::Budget::ENDLESS;
                if self.broken(&state).is_some() {
                    break;
                }
            }
        }
        lines
    }

    fn tell(&self, state: &mut State, action: Action, number: usize) -> String {
        let after = self.after(state, action);
        let news = news(state, &after).join(", ");
        *state = after;
        let arrow = if news.is_empty() { "" } else { " -> " };
        format!("{number:>4}  {action}{arrow}{news}")
    }
}

fn news(before: &State, after: &State) -> Vec<String> {
    let mut news = Vec::new();
    for (r, (was, is)) in before.requests.iter().zip(after.requests).enumerate() {
        match is {
            _ if *was == is => {}
            Request::Held(id, e) => news.push(format!("booking {id} of epoch {e}")),
            Request::Refused => news.push(format!("request {r} is refused")),
            Request::Fresh | Request::Vouched(..) | Request::Confirmed(..) | Request::Done => {}
        }
    }
    for (id, row) in (0_u8..).zip(after.sql.rows) {
        if after.ghost.queued & !before.ghost.queued & bit(id) != 0 {
            news.push(format!("booking {id} is told queued"));
        }
        if let Some(row) = row.filter(|_| before.sql.rows[usize::from(id)] != row) {
            let reason = row.reason.map_or(String::new(), |reason| format!("({reason})"));
            news.push(format!("booking {id} is {}{reason}", row.state));
        }
        let (was, is) = (before.sql.parked[usize::from(id)], after.sql.parked[usize::from(id)]);
        if was != is {
            let verb = if is.is_some() { "parked" } else { "unparked" };
            news.push(format!("booking {id} is {verb}"));
        }
    }
    news.extend(epochs(before, after));
    news.extend(ledgers(before, after));
    news
}

fn epochs(before: &State, after: &State) -> Vec<String> {
    let mut news = Vec::new();
    for (e, row) in (1_u8..).zip(after.sql.epochs.items()) {
        let was = before.sql.epoch(e);
        if was.map(|was| was.state) != Some(row.state) {
            let word = match row.state {
                EpochState::Open => "open",
                EpochState::Sealed => "sealed",
                EpochState::Closed => "closed",
            };
            news.push(format!("epoch {e} is {word}"));
        }
        if row.drained && !was.is_some_and(|was| was.drained) {
            news.push(format!("epoch {e} is drained"));
        }
    }
    news
}

fn ledgers(before: &State, after: &State) -> Vec<String> {
    let mut news = Vec::new();
    for (at, (was, is)) in before.nodes.iter().zip(&after.nodes).enumerate() {
        let (old, new) = (was.data, is.data);
        if old.head != new.head || old.slots != new.slots {
            let state = new.head.map_or("no ledger".to_owned(), |head| {
                let word = match head.shelf {
                    Shelf::Shell => "a shell",
                    Shelf::Open => "open",
                    Shelf::Frozen => "frozen",
                };
                format!("ledger of epoch {} {word}", head.e)
            });
            let [first, second] = new.slots.map(|slot| slot.left);
            let left =
                if second == 0 { format!("{first}") } else { format!("{first} and {second}") };
            news.push(format!("Redis {at}: {state}, {left} left"));
        }
    }
    news
}
