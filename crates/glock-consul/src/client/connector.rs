//! How connections to an agent are opened, unless the application brings a connector of its own.

use std::time::Duration;

use glock_core::LockError;
#[cfg(feature = "tls")]
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;

const CONNECT_MAX: Duration = Duration::from_secs(2);
/// A connection that only receives finds out by this that its peer vanished.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

pub(crate) fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_MAX));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    tcp
}

/// TLS by rustls, with ring and the machine's root certificates.
#[cfg(feature = "tls")]
pub(crate) fn tls() -> Result<HttpsConnector<HttpConnector>, LockError> {
    let mut tcp = tcp();
    tcp.enforce_http(false);
    let tls = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
        .map_err(|err| LockError::invalid("root certificates", err.to_string()))?;
    Ok(tls.https_only().enable_http1().wrap_connector(tcp))
}

#[cfg(not(feature = "tls"))]
pub(crate) fn tls() -> Result<HttpConnector, LockError> {
    let way_out = "it is https: turn on the feature `tls`, or give a connector to `build_with`";
    Err(LockError::invalid("url", way_out))
}
