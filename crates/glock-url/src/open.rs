//! `open`: the lock that a URL names.

use crate::{any_lock::AnyLock, error::UrlError, stores, url::LockUrl};

/// Makes the lock that `url` names. Nothing is sent, except where the URL has `create=true`: then what the
/// store needs is created first. A store is reached on first use.
///
/// # Errors
///
/// [`UrlError`] if the URL cannot work, or names a store that this program was built without.
///
/// # Cancel safety
///
/// Cancel safe.
pub async fn open(url: &str) -> Result<AnyLock, UrlError> {
    LockUrl::parse(url)?.open().await
}

impl LockUrl {
    /// Does what [`open`] does.
    ///
    /// # Errors
    ///
    /// As [`open`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn open(&self) -> Result<AnyLock, UrlError> {
        let scheme = self.scheme();
        if !scheme.is_compiled_in() {
            let (scheme, feature) = (scheme.as_str(), scheme.feature());
            return Err(UrlError::FeatureMissing { scheme, feature });
        }
        stores::open(self).await
    }
}
