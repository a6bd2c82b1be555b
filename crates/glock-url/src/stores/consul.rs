//! `consul://`.

use std::sync::Arc;

use glock_consul::{ConsulClient, ConsulLock};

use crate::{any_lock::AnyLock, error::UrlError, url::LockUrl};

const PORT: u16 = 8500;

pub(super) fn open(url: &LockUrl) -> Result<AnyLock, UrlError> {
    url.parameters.check(url.scheme(), &["tls", "datacenter", "session_ttl_min"])?;
    let hosts = url.hosts_or("127.0.0.1", PORT);
    let [host] = &hosts[..] else {
        return Err(UrlError::malformed("host", "an agent is one host"));
    };
    if url.user.is_some() {
        return Err(UrlError::malformed(
            "user",
            "Consul has none; write the token as consul://:token@host",
        ));
    }
    let scheme = if url.wants_tls()? { "https" } else { "http" };
    let mut client = ConsulClient::builder(format!("{scheme}://{host}/{}", url.path));
    if let Some(token) = url.password()? {
        client = client.token(token.reveal());
    }
    if let Some(datacenter) = url.parameters.get("datacenter") {
        client = client.datacenter(datacenter);
    }
    let mut lock = ConsulLock::new(client.build()?);
    if let Some(ttl_min) = url.parameters.duration("session_ttl_min")? {
        lock = lock.with_session_ttl_min(ttl_min)?;
    }
    Ok(Arc::new(lock.with_config(url.parameters.config()?)?))
}
