//! Why a call has no answer, judged from what the driver says.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// How much of a server's error text is kept.
const REFUSAL_LEN_MAX: usize = 200;

/// Why a call has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The call was certainly not run: as many wait for Redis as may, or so many that its turn came too late.
    #[error("too many wait for Redis")]
    Overloaded,
    /// The call was certainly not run: there is no connection.
    #[error("Redis is not reachable")]
    Unavailable,
    /// The call was sent and may have run.
    #[error("no answer from Redis: the call may have run")]
    Unknown,
    /// Redis answered, with an error or with something this code can't read.
    #[error("Redis refused the call: {0}")]
    Refused(String),
}

impl From<RedisError> for Error {
    fn from(error: RedisError) -> Self {
        match error.kind() {
            // The server turns these away before the first write of a script.
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::MasterDown,
            ) => Self::Unavailable,
            ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::UnexpectedReturnType => {
                Self::Refused(error.to_string().chars().take(REFUSAL_LEN_MAX).collect())
            }
            // Lost, late or garbled: the driver does not tell whether it was sent, so it was.
            _ => Self::Unknown,
        }
    }
}

/// Makes the error for an answer that no script of ours gives.
pub(crate) fn unreadable(what: &str) -> Error {
    Error::Refused(format!("unreadable {what}"))
}

/// Tells whether an error means that the connection, or the server behind it, must be replaced.
///
/// A timeout does not: the connection is still in step, and the probe judges it.
pub(crate) fn is_link_broken(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Io => !error.is_timeout(),
        ErrorKind::Parse
        | ErrorKind::Server(
            ServerErrorKind::BusyLoading | ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown,
        ) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> RedisError {
        redis::parse_redis_value(format!("-{line}\r\n").as_bytes())
            .expect("an error line parses")
            .extract_error()
            .expect_err("an error line is an error")
    }

    #[test]
    fn a_server_that_can_not_write_ran_nothing() {
        for line in ["LOADING not yet", "READONLY a replica", "MASTERDOWN no link"] {
            assert!(matches!(Error::from(said(line)), Error::Unavailable), "{line}");
            assert!(is_link_broken(&said(line)), "{line}");
        }
    }

    #[test]
    fn a_lost_or_late_answer_is_unknown() {
        let lost = || RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        let late = || RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        assert!(matches!(Error::from(lost()), Error::Unknown));
        assert!(matches!(Error::from(late()), Error::Unknown));
        assert!(is_link_broken(&lost()));
        assert!(!is_link_broken(&late()));
    }

    #[test]
    fn an_error_of_the_server_is_a_refusal_of_bounded_length() {
        let Error::Refused(text) = Error::from(said(&format!("OOM {}", "x".repeat(900)))) else {
            panic!("not refused");
        };
        assert_eq!(text.chars().count(), REFUSAL_LEN_MAX);
        assert!(!is_link_broken(&said("WRONGTYPE not a hash")));
    }
}
