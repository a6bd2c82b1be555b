//! `Attempt`: one attempt to take a lock, and how it is undone.

use super::call_deadline::CallDeadline;
use crate::{Lease, LockError};

/// One attempt to take a lock, under an owner token of its own, and how it is undone.
///
/// [`Call::acquire`](super::Call::acquire) runs it. Whatever becomes of the attempt, a grant that its
/// caller does not learn of is undone: the caller left, the time limit passed, or the reply was lost.
pub trait Attempt: Send + Sync + 'static {
    /// Sends the request, and waits for its reply as long as one attempt of the call may
    /// ([`CallDeadline::reply`]). If none comes, what it was sent over is silent: replace it, so that the
    /// undo and the next attempt go elsewhere, and return [`Fault::Unknown`](crate::Fault::Unknown).
    ///
    /// # Errors
    ///
    /// [`LockError::Held`] if another owner has the lock; what the store's failure means otherwise.
    ///
    /// # Cancel safety
    ///
    /// Need not be cancel safe: it is dropped only with its runtime, or after twice the call's limit.
    fn run(&self, until: CallDeadline) -> impl Future<Output = Result<Lease, LockError>> + Send;

    /// Takes back what [`run`](Self::run) may have done: one compare-and-delete by owner token. It may
    /// run several times, also while the request of `run` is still in flight. It is safe to repeat, so it
    /// may be [`hedged`](super::hedged).
    ///
    /// # Errors
    ///
    /// [`LockError::NotHeld`] if the store does not have that owner token.
    ///
    /// # Cancel safety
    ///
    /// Need not be cancel safe, as [`run`](Self::run).
    fn undo(&self, until: CallDeadline) -> impl Future<Output = Result<(), LockError>> + Send;
}
