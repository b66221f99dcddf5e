//! Names of keys. All of a partition share one hash tag, so that one script may touch them.

use booking::{Partition, SessionId};

/// The ledger: a hash of `e`, `state` (shell, open or frozen), `run_id`, `replid`, `nonce`, `held`
/// and `settled`.
pub(crate) fn ledger(partition: Partition) -> String {
    format!("{{p{partition}}}:ledger")
}

/// The slots of a session: a hash of `e`, of `r` (the release that binds slots whose counters name
/// none) and, by ordinal, packed counters.
pub(crate) fn session(partition: Partition, session: SessionId) -> String {
    format!("{{p{partition}}}:s:{session}")
}

/// Who is known in a session: a hash of packed bookings by patient.
pub(crate) fn who(partition: Partition, session: SessionId) -> String {
    format!("{{p{partition}}}:w:{session}")
}

/// The outbox: a hash of bookings as JSON, by booking id.
pub(crate) fn out(partition: Partition) -> String {
    format!("{{p{partition}}}:out")
}

/// The windows of releases: a hash of packed windows by release.
pub(crate) fn releases(partition: Partition) -> String {
    format!("{{p{partition}}}:releases")
}
