//! The one decision on which all others rest: is the ledger in Redis the one PostgreSQL means?

use inventory::Inspection;
use ledger::epoch::{EpochRow, EpochState};

/// What a partition's ledger needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Nothing: it is the true one and sells.
    Sell,
    /// R3: the shell of the current epoch stands, and is to be opened.
    Open,
    /// R6: it was shut on purpose, and PostgreSQL is still to be told what it sold.
    Freeze,
    /// R1: it is missing, of another life of Redis, or of an epoch that is over.
    Renew,
    /// Redis is ahead of PostgreSQL, which never happens by itself: PostgreSQL was set back, or
    /// this look at it is an old one. Nothing is done.
    Wait,
}

/// Decides from the latest epoch's row and a look at Redis, taken after the row was read.
pub fn what_next(latest: Option<&EpochRow>, seen: &Inspection) -> Move {
    let current = latest.map_or(booking::Epoch::NONE, |row| row.epoch);
    let head = match &seen.ledger {
        // Only a ledger on its own server's term can be the true one.
        Some(head) if head.term == seen.term => head,
        Some(_) | None => return Move::Renew,
    };
    if head.epoch > current {
        return Move::Wait;
    }
    let Some(row) = latest.filter(|row| row.state == EpochState::Open) else {
        return Move::Renew;
    };
    if row.term != head.term || row.nonce != head.nonce {
        return Move::Renew;
    }
    match (head.epoch == row.epoch, head.open) {
        (true, true) => Move::Sell,
        (true, false) => Move::Freeze,
        (false, false) => Move::Open,
        (false, true) => Move::Renew,
    }
}

#[cfg(test)]
mod tests {
    use booking::{Epoch, Nonce, Partition, Term};
    use inventory::LedgerHead;

    use super::*;

    fn term(name: &str) -> Term {
        Term { run_id: format!("run-{name}"), replid: format!("replid-{name}") }
    }

    fn row(epoch: i64, state: EpochState) -> EpochRow {
        EpochRow {
            partition: Partition::new(0),
            epoch: Epoch(epoch),
            term: term("a"),
            nonce: Nonce("n1".into()),
            state,
            frozen: false,
            drained: false,
        }
    }

    fn head(epoch: i64, is_open: bool) -> LedgerHead {
        LedgerHead {
            epoch: Epoch(epoch),
            term: term("a"),
            nonce: Nonce("n1".into()),
            open: is_open,
            held: 0,
            settled: 0,
        }
    }

    fn seen(ledger: Option<LedgerHead>) -> Inspection {
        Inspection { ledger, term: term("a"), outbox_len: 0 }
    }

    #[test]
    fn the_true_open_ledger_sells() {
        let row = row(3, EpochState::Open);
        assert_eq!(what_next(Some(&row), &seen(Some(head(3, true)))), Move::Sell);
    }

    #[test]
    fn the_shell_of_the_current_epoch_is_opened() {
        let row = row(3, EpochState::Open);
        for shell in [head(0, false), head(2, false)] {
            assert_eq!(what_next(Some(&row), &seen(Some(shell))), Move::Open);
        }
    }

    #[test]
    fn a_shut_ledger_of_the_open_epoch_is_frozen_to_the_end() {
        let row = row(3, EpochState::Open);
        assert_eq!(what_next(Some(&row), &seen(Some(head(3, false)))), Move::Freeze);
    }

    #[test]
    fn without_a_ledger_or_an_epoch_there_is_a_new_one() {
        let open = row(3, EpochState::Open);
        assert_eq!(what_next(Some(&open), &seen(None)), Move::Renew);
        assert_eq!(what_next(None, &seen(None)), Move::Renew);
        // A shell whose maker died before PostgreSQL heard of it.
        assert_eq!(what_next(None, &seen(Some(head(0, false)))), Move::Renew);
    }

    #[test]
    fn an_epoch_that_is_over_is_followed_by_another() {
        for state in [EpochState::Sealed, EpochState::Closed] {
            for ledger in [head(3, true), head(3, false), head(0, false)] {
                assert_eq!(what_next(Some(&row(3, state)), &seen(Some(ledger))), Move::Renew);
            }
        }
    }

    #[test]
    fn another_nonce_another_term_or_another_life_of_the_server_is_not_the_true_ledger() {
        let row = row(3, EpochState::Open);
        for is_open in [true, false] {
            let other_nonce = LedgerHead { nonce: Nonce("n2".into()), ..head(3, is_open) };
            assert_eq!(what_next(Some(&row), &seen(Some(other_nonce))), Move::Renew);
            let other_term = LedgerHead { term: term("b"), ..head(3, is_open) };
            assert_eq!(what_next(Some(&row), &seen(Some(other_term.clone()))), Move::Renew);
            // Ledger and server agree, but PostgreSQL gave the quota to another life.
            let moved = Inspection { term: term("b"), ..seen(Some(other_term)) };
            assert_eq!(what_next(Some(&row), &moved), Move::Renew);
            // A failback: the same process, another replication id.
            let mut failback = seen(Some(head(3, is_open)));
            failback.term.replid = "replid-later".into();
            assert_eq!(what_next(Some(&row), &failback), Move::Renew);
        }
    }

    #[test]
    fn an_older_open_ledger_is_renewed() {
        let row = row(3, EpochState::Open);
        assert_eq!(what_next(Some(&row), &seen(Some(head(2, true)))), Move::Renew);
    }

    #[test]
    fn a_ledger_ahead_of_postgresql_is_not_touched() {
        for latest in [None, Some(row(3, EpochState::Open)), Some(row(3, EpochState::Sealed))] {
            assert_eq!(what_next(latest.as_ref(), &seen(Some(head(4, true)))), Move::Wait);
        }
    }
}
