//! Work that is done to its end, also when whoever waits for it leaves.
//!
//! A task of its own would do that too, but costs two wakes, often of another thread: one to begin, one
//! to answer. So whoever waits does the work, and it moves into a task only if they leave.

use std::fmt::{self, Debug};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// Work under way. When it is dropped before its end, it goes on in a task.
#[must_use = "it begins when it is awaited"]
pub struct Unbroken<T: Send + 'static> {
    /// Not there while it is being polled, and once it is done.
    work: Option<BoxFuture<'static, T>>,
}

impl<T: Send + 'static> Unbroken<T> {
    /// Work that `tasks` counts until it is done, whoever does it.
    pub fn new(tasks: &TaskTracker, work: impl Future<Output = T> + Send + 'static) -> Self {
        Self { work: Some(Box::pin(tasks.track_future(work))) }
    }
}

impl<T: Send + 'static> Debug for Unbroken<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unbroken").field("is_done", &self.work.is_none()).finish()
    }
}

impl<T: Send + 'static> Future for Unbroken<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // Taken out: what panics is not to go on.
        let Some(mut work) = self.work.take() else { return Poll::Pending };
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Unbroken<T> {
    fn drop(&mut self) {
        // Without a runtime everything ends here.
        if let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) {
            drop(runtime.spawn(work));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn who_waits_does_the_work() {
        let tasks = TaskTracker::new();
        tasks.close();
        let work = Unbroken::new(&tasks, async { tokio::task::id() });
        let who_waits = tokio::spawn(async { (tokio::task::id(), work.await) });
        let (here, done_by) = who_waits.await.expect("does not panic");
        assert_eq!(done_by, here);
        tasks.wait().await;
    }

    #[tokio::test]
    async fn it_goes_on_and_is_counted_when_who_waits_leaves() {
        let tasks = TaskTracker::new();
        let (go_on, told) = oneshot::channel::<()>();
        let (tell, done) = oneshot::channel();
        let mut work = Unbroken::new(&tasks, async {
            told.await.expect("told");
            tell.send(()).expect("somebody waits");
        });
        assert!(futures::poll!(&mut work).is_pending());
        drop(work);
        tasks.close();
        assert_eq!(tasks.len(), 1);
        go_on.send(()).expect("it goes on");
        tasks.wait().await;
        done.await.expect("done");
    }

    #[tokio::test]
    async fn what_was_never_begun_is_done_too() {
        let tasks = TaskTracker::new();
        let (tell, done) = oneshot::channel();
        drop(Unbroken::new(&tasks, async { tell.send(()).expect("somebody waits") }));
        done.await.expect("done");
    }
}
