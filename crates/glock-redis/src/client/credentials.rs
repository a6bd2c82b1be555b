//! `Credentials`: with what a connection logs in, asked for each time one is made.

use std::{fmt, sync::Arc};

use futures_util::future::{BoxFuture, FutureExt};
use glock_core::BoxError;

/// A user's name and password, for [`RedisLock::with_credentials`](crate::RedisLock::with_credentials).
#[derive(Clone)]
pub struct Credentials {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl Credentials {
    /// A user's name and password. A server without users has the user `default`.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: password.into() }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The application's function that returns the credentials of today.
pub(crate) type CredentialsProvider =
    Arc<dyn Fn() -> BoxFuture<'static, Result<Credentials, BoxError>> + Send + Sync>;

/// Erases the type of a function.
pub(crate) fn provider<F, R>(function: F) -> CredentialsProvider
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Result<Credentials, BoxError>> + Send + 'static,
{
    Arc::new(move || function().boxed())
}
