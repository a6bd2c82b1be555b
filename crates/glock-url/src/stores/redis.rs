//! `redis://`, `rediss://`, `redis+cluster://`, `rediss+cluster://`.

use std::sync::Arc;

use glock_redis::{
    RedisLock,
    redis::{Client, ConnectionInfo, IntoConnectionInfo as _},
};

use crate::{any_lock::AnyLock, error::UrlError, scheme::Scheme, url::LockUrl};

const PORT: u16 = 6379;

pub(super) fn open(url: &LockUrl) -> Result<AnyLock, UrlError> {
    url.parameters.check(url.scheme(), &[])?;
    let is_cluster = matches!(url.scheme(), Scheme::RedisCluster | Scheme::RedisClusterTls);
    if !is_cluster && url.hosts.len() > 1 {
        return Err(UrlError::malformed(
            "host",
            "a server is one host; write redis+cluster:// for a cluster",
        ));
    }
    if !url.path.is_empty() && url.path.parse::<u16>().is_err() {
        return Err(UrlError::malformed("path", "it must be the number of a database"));
    }
    let hosts = url.hosts_or("127.0.0.1", PORT);
    let mut clients = hosts.iter().map(|host| client(url, host)).collect::<Result<Vec<_>, _>>()?;
    let lock = match clients.pop() {
        Some(only) if !is_cluster => RedisLock::new(only),
        last => RedisLock::cluster(clients.into_iter().chain(last)),
    };
    Ok(Arc::new(lock.with_config(url.parameters.config()?)?))
}

fn client(url: &LockUrl, host: &str) -> Result<Client, UrlError> {
    // The driver's own error may repeat a part of the URL.
    let malformed = |_| UrlError::malformed("host", "the driver does not take it");
    let scheme = if url.wants_tls()? { "rediss" } else { "redis" };
    let info: ConnectionInfo =
        format!("{scheme}://{host}/{}", url.path).into_connection_info().map_err(malformed)?;
    let mut settings = info.redis_settings().clone();
    if let Some(user) = &url.user {
        settings = settings.set_username(user.reveal());
    }
    if let Some(password) = url.password()? {
        settings = settings.set_password(password.reveal());
    }
    Client::open(info.set_redis_settings(settings)).map_err(malformed)
}
