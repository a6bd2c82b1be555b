//! `etcd://`.

use std::sync::Arc;

use glock_etcd::{EtcdLock, connect_options, etcd_client::ConnectOptions};

use crate::{any_lock::AnyLock, error::UrlError, url::LockUrl};

const PORT: u16 = 2379;

pub(super) fn open(url: &LockUrl) -> Result<AnyLock, UrlError> {
    url.parameters.check(url.scheme(), &["tls", "ca"])?;
    if !url.path.is_empty() {
        return Err(UrlError::malformed("path", "etcd has none; write ?namespace=.."));
    }
    let scheme = if url.wants_tls()? { "https" } else { "http" };
    let hosts = url.hosts_or("127.0.0.1", PORT);
    let endpoints: Vec<_> = hosts.iter().map(|host| format!("{scheme}://{host}")).collect();
    let options = match (&url.user, url.password()?) {
        (Some(user), Some(password)) => {
            connect_options().with_user(user.reveal(), password.reveal())
        }
        (None, None) => connect_options(),
        _ => return Err(UrlError::malformed("login", "etcd wants both user and password")),
    };
    let options = with_authority(options, url)?;
    let lock = EtcdLock::from_endpoints(endpoints, options);
    Ok(Arc::new(lock.with_config(url.parameters.config()?)?))
}

/// The certificate authority in the file `ca`.
#[cfg(feature = "tls")]
fn with_authority(options: ConnectOptions, url: &LockUrl) -> Result<ConnectOptions, UrlError> {
    use glock_etcd::etcd_client::{Certificate, TlsOptions};

    match url.parameters.get("ca") {
        Some(path) => {
            let pem = std::fs::read(path).map_err(UrlError::unreadable("ca", path))?;
            Ok(options.with_tls(TlsOptions::new().ca_certificate(Certificate::from_pem(pem))))
        }
        None if url.wants_tls()? => Err(UrlError::malformed(
            "parameter `ca`",
            "with tls=true, name the file of the certificate authority",
        )),
        None => Ok(options),
    }
}

#[cfg(not(feature = "tls"))]
#[expect(clippy::unnecessary_wraps, reason = "as with the feature `tls`")]
fn with_authority(options: ConnectOptions, _url: &LockUrl) -> Result<ConnectOptions, UrlError> {
    Ok(options)
}
