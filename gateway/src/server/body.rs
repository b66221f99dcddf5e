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
/// neither a timer nor the time: the clocks start when there is something to wait for.
#[derive(Debug)]
pub struct TimedBody<B> {
    inner: B,
    deadlines: Deadlines,
    waited: Option<Waited>,
    /// Whether a part came since the timer was set.
    is_moving: bool,
}

/// The clocks of a body that somebody waits for.
#[derive(Debug)]
struct Waited {
    ends_at: Instant,
    timer: Pin<Box<Sleep>>,
}

impl<B> TimedBody<B> {
    /// Bounds a body.
    pub fn new(inner: B, deadlines: Deadlines) -> Self {
        Self { inner, deadlines, waited: None, is_moving: true }
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Deadlines { per_read, total } = self.deadlines;
        let waited = self.waited.get_or_insert_with(|| {
            let ends_at = Instant::now() + total;
            Waited { ends_at, timer: Box::pin(sleep_until(ends_at)) }
        });
        if std::mem::take(&mut self.is_moving) {
            waited.timer.as_mut().reset(waited.ends_at.min(Instant::now() + per_read));
        }
        waited.timer.as_mut().poll(cx)
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
            body.is_moving = true;
            return Poll::Ready(frame.map(|result| result.map_err(Into::into)));
        }
        body.poll_late(cx).map(|()| Some(Err(Late.into())))
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
