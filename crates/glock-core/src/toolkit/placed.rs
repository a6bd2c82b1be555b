//! `Placed`: a future that runs on its caller's runtime, or in a task on another.

use std::{
    panic::resume_unwind,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{runtime::Handle, task::JoinHandle};

/// A future that runs on its caller's runtime, or in a task on another, which ends when this is dropped.
pub(crate) enum Placed<W: Future> {
    Here(Pin<Box<W>>),
    There(JoinHandle<W::Output>),
}

impl<W> Placed<W>
where
    W: Future + Send + 'static,
    W::Output: Send + 'static,
{
    /// Begins `work` on that runtime; without one, the caller runs it.
    pub(crate) fn on(runtime: Option<&Handle>, work: Pin<Box<W>>) -> Self {
        match runtime {
            None => Self::Here(work),
            Some(runtime) => Self::There(runtime.spawn(work)),
        }
    }
}

/// `None`: the runtime has ended.
impl<W: Future> Future for Placed<W> {
    type Output = Option<W::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Here(work) => work.as_mut().poll(cx).map(Some),
            Self::There(task) => match ready!(Pin::new(task).poll(cx)) {
                Ok(output) => Poll::Ready(Some(output)),
                Err(err) => match err.try_into_panic() {
                    Ok(panic) => resume_unwind(panic),
                    Err(_) => Poll::Ready(None),
                },
            },
        }
    }
}

impl<W: Future> Drop for Placed<W> {
    fn drop(&mut self) {
        if let Self::There(task) = self {
            task.abort();
        }
    }
}
