//! `LockAdmin`: what an operator does with locks: list them, end a hold by force, check the store.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{FencingToken, HoldPage, IdPrefix, ListCursor, Lock, LockError, LockId, Warning};

/// What an operator does with the locks of a store. Every lock of glock implements it; an application
/// that only takes locks does not need it.
///
/// It works on one namespace, as [`Lock`] does. It may take permissions that locks do not: each crate's
/// README names them.
#[async_trait]
pub trait LockAdmin: Lock {
    /// Reads one page of what is held: about `max` holds whose ids begin with `prefix`, from where the page
    /// ended that returned `after`. It has a few more where the store steps over several keys at once. [`LockAdminExt::list`](crate::LockAdminExt::list) reads all pages.
    ///
    /// A hold that lasts as long as the listing is on one of the pages at least. What begins or ends
    /// meanwhile may be missing. The order is the store's.
    ///
    /// # Errors
    ///
    /// - [`LockError::Invalid`] for a cursor that this store did not return.
    /// - [`LockError::Backend`] if the store failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    async fn list_page(
        &self,
        prefix: &IdPrefix,
        after: Option<&ListCursor>,
        max: usize,
    ) -> Result<HoldPage, LockError>;

    /// Ends the hold of `id` that was granted with the token `expected`, whichever owner has it. Any other hold
    /// stays as it is. Returns `false` if there is no hold with that token.
    ///
    /// A guard learns that it has lost the lock: at once where its store notifies it of that, else by its
    /// next renewal. Until then its work may overlap with the next holder's, so let the resource compare
    /// tokens, or end the holder first.
    ///
    /// After a lost reply the request is sent again; it returns `true` if the hold is over by then.
    ///
    /// # Errors
    ///
    /// [`LockError::Backend`] if the store failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, it is carried out even if the future is dropped.
    async fn force_release(&self, id: &LockId, expected: FencingToken) -> Result<bool, LockError>;

    /// Reads how the server is set up, and returns what may break a promise of the lock. Empty if nothing
    /// was found. It changes nothing that lasts.
    ///
    /// What the user may not read is a warning too.
    ///
    /// # Errors
    ///
    /// [`LockError::Backend`] if the store failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    async fn preflight(&self) -> Result<Vec<Warning>, LockError>;
}

/// Forwards every method to what a pointer points at.
macro_rules! forward {
    ($pointer:ident) => {
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<L: LockAdmin + ?Sized> LockAdmin for $pointer<L> {
            async fn list_page(
                &self,
                prefix: &IdPrefix,
                after: Option<&ListCursor>,
                max: usize,
            ) -> Result<HoldPage, LockError> {
                (**self).list_page(prefix, after, max).await
            }
            async fn force_release(
                &self,
                id: &LockId,
                expected: FencingToken,
            ) -> Result<bool, LockError> {
                (**self).force_release(id, expected).await
            }
            async fn preflight(&self) -> Result<Vec<Warning>, LockError> {
                (**self).preflight().await
            }
        }
    };
}

forward!(Arc);
forward!(Box);
