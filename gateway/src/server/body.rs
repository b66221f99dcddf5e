//! Deadlines on request bodies.

use std::error::Error as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// The body did not come in time.
#[derive(Debug, thiserror::Error)]
#[error("the body came too slowly")]
pub struct Late;

/// How long a body may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// From one part to the next.
    pub per_read: Duration,
    /// Over all.
    pub total: Duration,
}

/// A request body that ends with [`Late`] when it comes too slowly.
#[derive(Debug)]
pub struct TimedBody {
    inner: Incoming,
    deadlines: Deadlines,
    ends_at: Instant,
    timer: Pin<Box<Sleep>>,
}

impl TimedBody {
    /// Starts the clocks.
    pub fn new(inner: Incoming, deadlines: Deadlines) -> Self {
        let now = Instant::now();
        let ends_at = now + deadlines.total;
        let timer = Box::pin(sleep_until(ends_at.min(now + deadlines.per_read)));
        Self { inner, deadlines, ends_at, timer }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                let next = self.ends_at.min(Instant::now() + self.deadlines.per_read);
                self.timer.as_mut().reset(next);
                Poll::Ready(frame.map(|result| result.map_err(Into::into)))
            }
            Poll::Pending => match self.timer.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Some(Err(Late.into()))),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Tells whether reading failed for this cause.
pub fn is_caused_by<E: std::error::Error + 'static>(error: &axum::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<E>() {
            return true;
        }
        cause = error.source();
    }
    false
}
