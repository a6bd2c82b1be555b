//! `sqlite:`.

use std::sync::Arc;

use glock_sqlite::{SqliteLock, sqlx::sqlite::SqliteConnectOptions};

use crate::{any_lock::AnyLock, error::UrlError, url::LockUrl};

pub(super) fn open(url: &LockUrl) -> Result<AnyLock, UrlError> {
    url.parameters.check(url.scheme(), &[])?;
    if url.password()?.is_some() {
        return Err(UrlError::malformed(
            "password",
            "a file has none; its permissions say who may use it",
        ));
    }
    let options = SqliteConnectOptions::new().filename(&url.path).create_if_missing(true);
    let lock = SqliteLock::new(&options)?;
    Ok(Arc::new(lock.with_config(url.parameters.config()?)?))
}
