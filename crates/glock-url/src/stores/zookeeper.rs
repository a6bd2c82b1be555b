//! `zk://`.

use std::sync::Arc;

use glock_zookeeper::{ZooKeeperLock, zookeeper_client::Client};

use crate::{any_lock::AnyLock, error::UrlError, url::LockUrl};

const PORT: u16 = 2181;

pub(super) fn open(url: &LockUrl) -> Result<AnyLock, UrlError> {
    url.parameters.check(url.scheme(), &["session_timeout"])?;
    let connector = match (&url.user, url.password()?) {
        (Some(user), Some(password)) => {
            let login = format!("{}:{}", user.reveal(), password.reveal());
            Client::connector().with_auth("digest", login.as_bytes())
        }
        (None, None) => Client::connector(),
        _ => return Err(UrlError::malformed("login", "ZooKeeper wants both user and password")),
    };
    let mut cluster = url.hosts_or("127.0.0.1", PORT).join(",");
    if !url.path.is_empty() {
        cluster = format!("{cluster}/{}", url.path);
    }
    let mut lock = ZooKeeperLock::new(connector, cluster);
    if let Some(timeout) = url.parameters.duration("session_timeout")? {
        lock = lock.with_session_timeout(timeout)?;
    }
    Ok(Arc::new(lock.with_config(url.parameters.config()?)?))
}
