//! `LockAdminExt`: what operators use, written once for every lock.

use crate::{FencingToken, IdPrefix, Listing, LockAdmin, LockError, LockId};

/// Listing and forced release by any id. Every [`LockAdmin`] has it; it cannot be implemented by hand.
pub trait LockAdminExt: LockAdmin {
    /// Lists what is held under ids that begin with `prefix`, page after page. An empty prefix
    /// lists all locks of the namespace. Nothing is sent before
    /// its first [`next`](Listing::next). With the feature `stream` it is a `futures_core::Stream`.
    ///
    /// ```
    /// # use glock_core::{LockAdmin, LockAdminExt, LockError};
    /// # async fn show(lock: &impl LockAdmin) -> Result<(), LockError> {
    /// let mut holds = lock.list("reports/")?;
    /// while let Some(hold) = holds.next().await {
    ///     let hold = hold?;
    ///     println!("{}: {}", hold.id, hold.holder);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] for a prefix that no id can have. The listing ends with the first error of the
    /// store.
    fn list<P>(&self, prefix: P) -> Result<Listing<'_, Self>, LockError>
    where
        P: TryInto<IdPrefix, Error: Into<LockError>>,
    {
        Ok(Listing::new(self, prefix.try_into().map_err(Into::into)?))
    }

    /// [`LockAdmin::force_release`] by any id.
    ///
    /// # Errors
    ///
    /// As [`LockAdmin::force_release`], and [`LockError::Invalid`] for an id that cannot be a lock's.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`LockAdmin::force_release`] is.
    fn end_hold<I>(
        &self,
        id: I,
        expected: FencingToken,
    ) -> impl Future<Output = Result<bool, LockError>> + Send
    where
        I: TryInto<LockId, Error: Into<LockError>>,
    {
        let id = id.try_into().map_err(Into::into);
        async move { self.force_release(&id?, expected).await }
    }
}

impl<L: LockAdmin + ?Sized> LockAdminExt for L {}
