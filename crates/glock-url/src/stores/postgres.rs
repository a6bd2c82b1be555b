//! `postgres://`.

use std::{str::FromStr as _, sync::Arc};

use glock_postgres::{
    PostgresLock,
    sqlx::postgres::{PgConnectOptions, PgPoolOptions},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{any_lock::AnyLock, error::UrlError, url::LockUrl};

/// Parameters that the driver reads.
const DRIVER: [&str; 8] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "application_name",
    "options",
    "host",
    "statement-cache-capacity",
];
const OWN: [&str; 2] = ["table", "create"];

pub(super) async fn open(url: &LockUrl) -> Result<AnyLock, UrlError> {
    url.parameters.check(url.scheme(), &[&OWN[..], &DRIVER].concat())?;
    let options = options(url)?;
    // It only names the server. Without limits of time it starts no task.
    let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
    let lock = PostgresLock::new(pool.connect_lazy_with(options));
    let lock = lock.with_config(url.parameters.config()?)?;
    if url.parameters.is_on("create")? {
        lock.ensure_schema().await?;
    }
    Ok(Arc::new(lock))
}

fn options(url: &LockUrl) -> Result<PgConnectOptions, UrlError> {
    if url.hosts.len() > 1 {
        return Err(UrlError::malformed("host", "the driver takes one host"));
    }
    let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let query: Vec<_> = url
        .parameters
        .among(&DRIVER)
        .map(|(name, value)| format!("{name}={}", escaped(value)))
        .collect();
    let host = url.hosts.first().map_or("", String::as_str);
    let text = format!("postgres://{host}/{}?{}", escaped(&url.path), query.join("&"));
    let options = PgConnectOptions::from_str(&text).map_err(|_| {
        UrlError::malformed(
            "rest",
            "write it like postgres://user:password@host:5432/database?sslmode=verify-full",
        )
    })?;
    let options = match &url.user {
        Some(user) => options.username(user.reveal()),
        None => options,
    };
    Ok(match url.password()? {
        Some(password) => options.password(password.reveal()),
        None => options,
    })
}
