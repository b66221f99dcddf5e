//! A deadline for the head of a request, from its first byte on.
//!
//! hyper's own timer starts when the answer before ended, so it can only be as long as a
//! connection may idle. A client that drips a head byte by byte is cut here.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Answers up to so many bytes are put together and written as one piece, which costs the kernel less than
/// several. Nearly all are that short.
const SHORT_MAX: usize = 1_024;

/// How far a connection is with its requests. Shared by its reading and its answering.
#[derive(Clone, Debug)]
pub(super) struct Phase(Arc<Progress>);

#[derive(Debug, Default)]
struct Progress {
    /// Answers begun so far: a head that led to an answer was complete.
    begun: AtomicU32,
    is_answering: AtomicBool,
}

impl Phase {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    pub(super) fn begin_answer(&self) {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        self.0.is_answering.store(true, Ordering::Relaxed);
    }

    pub(super) fn end_answer(&self) {
        self.0.is_answering.store(false, Ordering::Relaxed);
    }
}

/// A stream whose reading fails when a head takes too long. A new connection owes one at once.
#[derive(Debug)]
pub(super) struct HeadDeadline<T> {
    stream: T,
    phase: Phase,
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    is_armed: bool,
    begun: u32,
}

impl<T> HeadDeadline<T> {
    pub(super) fn new(stream: T, phase: Phase, limit: Duration) -> Self {
        Self { stream, phase, limit, timer: Box::pin(sleep(limit)), is_armed: true, begun: 0 }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for HeadDeadline<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let begun = self.phase.0.begun.load(Ordering::Relaxed);
        if begun != self.begun {
            self.begun = begun;
            self.is_armed = false;
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() {
            let is_first = buf.filled().len() > before && !self.is_armed;
            if is_first && !self.phase.0.is_answering.load(Ordering::Relaxed) {
                let deadline = Instant::now() + self.limit;
                self.timer.as_mut().reset(deadline);
                self.is_armed = true;
            }
            return read;
        }
        if self.is_armed && self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for HeadDeadline<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        if length > SHORT_MAX {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        }
        let mut short = [0; SHORT_MAX];
        let mut rest = &mut short[..];
        for buf in bufs {
            let (here, behind) = rest.split_at_mut(buf.len());
            here.copy_from_slice(buf);
            rest = behind;
        }
        Pin::new(&mut self.stream).poll_write(cx, &short[..length])
    }
}
