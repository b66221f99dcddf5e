//! Deadlines on request bodies.

use std::error::Error as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
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

/// A request body that ends with [`Late`] when it comes too slowly. Most come with their heads, and need
/// no timer.
#[derive(Debug)]
pub struct TimedBody<B> {
    inner: B,
    per_read: Duration,
    ends_at: Instant,
    /// When the next part must be here.
    due: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> TimedBody<B> {
    /// Starts the clocks.
    pub fn new(inner: B, deadlines: Deadlines) -> Self {
        let now = Instant::now();
        let Deadlines { per_read, total } = deadlines;
        let ends_at = now + total;
        Self { inner, per_read, ends_at, due: ends_at.min(now + per_read), timer: None }
    }
}

impl<B> Body for TimedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let body = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut body.inner).poll_frame(cx) {
            body.due = body.ends_at.min(Instant::now() + body.per_read);
            return Poll::Ready(frame.map(|result| result.map_err(Into::into)));
        }
        let due = body.due;
        let timer = body.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err(Late.into()))),
            Poll::Pending => Poll::Pending,
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
