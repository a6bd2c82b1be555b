//! `DetachOnDrop`: a future that goes on in a task of its own when its caller drops it.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{runtime::Handle, time};

use super::pending_work::PendingWork;

/// A future that goes on in a task of its own when its caller drops it, for at most `limit`. `then`
/// receives its output, or `None` if the limit passed. From the drop to the end of `then`, `pending`
/// counts it.
pub(crate) struct DetachOnDrop<W, N, F>
where
    W: Future + Unpin + Send + 'static,
    W::Output: Send,
    N: FnOnce(Option<W::Output>) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    parts: Option<(W, N)>,
    handle: Handle,
    limit: Duration,
    pending: Option<PendingWork>,
}

impl<W, N, F> DetachOnDrop<W, N, F>
where
    W: Future + Unpin + Send + 'static,
    W::Output: Send,
    N: FnOnce(Option<W::Output>) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    pub(crate) fn new(
        (handle, pending): (Handle, Option<PendingWork>),
        limit: Duration,
        work: W,
        then: N,
    ) -> Self {
        Self { parts: Some((work, then)), handle, limit, pending }
    }
}

/// Nothing in it is pinned in place.
impl<W, N, F> Unpin for DetachOnDrop<W, N, F>
where
    W: Future + Unpin + Send + 'static,
    W::Output: Send,
    N: FnOnce(Option<W::Output>) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
}

impl<W, N, F> Future for DetachOnDrop<W, N, F>
where
    W: Future + Unpin + Send + 'static,
    W::Output: Send,
    N: FnOnce(Option<W::Output>) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    type Output = W::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<W::Output> {
        let Some((work, _)) = &mut self.parts else { return Poll::Pending };
        let output = std::task::ready!(Pin::new(work).poll(cx));
        self.parts = None;
        Poll::Ready(output)
    }
}

impl<W, N, F> Drop for DetachOnDrop<W, N, F>
where
    W: Future + Unpin + Send + 'static,
    W::Output: Send,
    N: FnOnce(Option<W::Output>) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    fn drop(&mut self) {
        if let Some((work, then)) = self.parts.take() {
            let (limit, pending) = (self.limit, self.pending.as_ref().map(PendingWork::begin));
            self.handle.spawn(async move {
                then(time::timeout(limit, work).await.ok()).await;
                drop(pending);
            });
        }
    }
}
