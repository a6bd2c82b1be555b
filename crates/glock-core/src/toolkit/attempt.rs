//! `Attempt`: one attempt to take a lock, and how it is undone.

use crate::{Lease, LockError};

/// One attempt to take a lock, under an owner token of its own, and how it is undone.
///
/// [`Call::acquire`](super::Call::acquire) runs it. Whatever becomes of the attempt, a grant that its
/// caller does not learn of is undone: the caller left, the time limit passed, or the reply was lost.
pub trait Attempt: Send + Sync + 'static {
    /// Sends the request.
    ///
    /// # Errors
    ///
    /// [`LockError::Held`] if another owner has the lock; what the store's failure means otherwise.
    ///
    /// # Cancel safety
    ///
    /// Need not be cancel safe: it is dropped only with its runtime, or after twice the call's limit.
    fn run(&self) -> impl Future<Output = Result<Lease, LockError>> + Send;

    /// Takes back what [`run`](Self::run) may have done: one compare-and-delete by owner token. It may
    /// run several times, also while the request of `run` is still in flight.
    ///
    /// # Errors
    ///
    /// [`LockError::NotHeld`] if the store does not have that owner token.
    ///
    /// # Cancel safety
    ///
    /// Need not be cancel safe, as [`run`](Self::run).
    fn undo(&self) -> impl Future<Output = Result<(), LockError>> + Send;
}
