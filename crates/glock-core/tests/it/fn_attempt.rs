//! `FnAttempt`: an attempt made of two closures.

use glock_core::{
    Lease, LockError,
    toolkit::{Attempt, CallDeadline, Mutex},
};

/// An attempt made of two closures; its work runs once.
#[derive(Debug)]
pub(crate) struct FnAttempt<W, U> {
    work: Mutex<Option<W>>,
    undo: U,
}

impl<W, U> FnAttempt<W, U> {
    pub(crate) const fn new(work: W, undo: U) -> Self {
        Self { work: Mutex::new(Some(work)), undo }
    }
}

impl<W, U, F> Attempt for FnAttempt<W, U>
where
    W: Future<Output = Result<Lease, LockError>> + Send + 'static,
    U: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), LockError>> + Send + 'static,
{
    async fn run(&self, _until: CallDeadline) -> Result<Lease, LockError> {
        let work = self.work.lock().take();
        match work {
            Some(work) => work.await,
            None => std::future::pending().await,
        }
    }

    async fn undo(&self, _until: CallDeadline) -> Result<(), LockError> {
        (self.undo)().await
    }
}
