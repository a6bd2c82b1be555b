//! `Outgoing`: what is to be written to a connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::io::AsyncWrite;

/// What is to be written to a connection. The caller of a request writes it at once where the socket
/// takes it; what is left, the connection's task writes.
pub(crate) struct Outgoing {
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    buffer: Vec<u8>,
    written: usize,
    /// The task, while it has nothing to write.
    task: Option<Waker>,
}

impl Outgoing {
    pub(crate) fn new(writer: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        Self { writer: Box::new(writer), buffer: Vec::new(), written: 0, task: None }
    }

    /// Writes `bytes`, or leaves what does not fit to the task.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let is_first = self.buffer.is_empty();
        self.buffer.extend_from_slice(bytes);
        // A failure, the task finds out about as well.
        let done = is_first && self.write(&mut Context::from_waker(Waker::noop())).is_ready();
        if done && self.buffer.is_empty() {
            return;
        }
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Drops the stream, and what was not written to it.
    pub(crate) fn close(&mut self) {
        *self = Self::new(tokio::io::sink());
    }

    /// Ready once a write failed; pending for as long as all goes well.
    pub(crate) fn poll_failure(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match self.write(cx) {
            Poll::Ready(Err(err)) => Poll::Ready(err),
            Poll::Ready(Ok(())) => {
                self.task = Some(cx.waker().clone());
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Writes all that is there.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.buffer.len() {
            let rest = &self.buffer[self.written..];
            match std::task::ready!(Pin::new(&mut self.writer).poll_write(cx, rest)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => self.written += count,
                Err(err) => return Poll::Ready(Err(err)),
            }
        }
        if self.written > 0 {
            self.buffer.clear();
            self.written = 0;
        }
        // For TLS, which keeps bytes back.
        Pin::new(&mut self.writer).poll_flush(cx)
    }
}
