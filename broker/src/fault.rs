//! Why a connection is given up, and the bound on every single step over it.

use std::time::Duration;

use lapin::ErrorKind;

/// Why a connection is given up. Only ever logged: the answer to each is to build a new one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the AMQP URL is malformed")]
    Url,
    #[error("the server does not greet like RabbitMQ: {0}")]
    Greeting(&'static str),
    #[error("{0} took too long")]
    Late(&'static str),
    #[error("{0}")]
    Amqp(#[from] lapin::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error(
        "queue or exchange {name} exists with other properties: {cause}. Drain it, delete it, and \
         it is declared anew; or give this deployment another queue prefix"
    )]
    Mismatch { name: String, cause: lapin::Error },
    #[error(
        "{name} is not there, and this account may not declare it: {cause}. Run `gateway \
         declare-queues` with one that may"
    )]
    NotDeclared { name: String, cause: lapin::Error },
    #[error("the consumer was cancelled by the server")]
    Cancelled,
    #[error("the channel or connection broke")]
    Broken,
    #[error("the handler gave {given} verdicts for {asked} messages")]
    Verdicts { asked: usize, given: usize },
    #[error("an echo was not confirmed: {0}")]
    Echo(#[from] crate::courier::Doubt),
    #[error("a publishing task ended")]
    LaneEnded,
}

/// Bounds a step over the connection: lapin's promises may stay pending for ever on a dead channel.
pub(crate) async fn within<T>(
    what: &'static str,
    bound: Duration,
    step: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Fault> {
    Ok(tokio::time::timeout(bound, step).await.map_err(|_| Fault::Late(what))??)
}

/// Tells whether the server refused a declaration because the thing exists with other properties.
pub(crate) fn is_mismatch(error: &lapin::Error) -> bool {
    const PRECONDITION_FAILED: u16 = 406;
    is_refused_as(error, PRECONDITION_FAILED)
}

/// Tells whether the server refused something because the account may not do it.
pub(crate) fn is_denied(error: &lapin::Error) -> bool {
    const ACCESS_REFUSED: u16 = 403;
    is_refused_as(error, ACCESS_REFUSED)
}

/// Tells whether the server refused something because it needs what is not there.
pub(crate) fn is_absent(error: &lapin::Error) -> bool {
    const NOT_FOUND: u16 = 404;
    is_refused_as(error, NOT_FOUND)
}

fn is_refused_as(error: &lapin::Error, code: u16) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(e) if e.get_id() == code)
}
