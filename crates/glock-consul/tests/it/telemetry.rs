//! What telemetry reports of this store's lock.

use std::{net::SocketAddr, time::Duration};

use glock_consul::{ConsulClient, ConsulLock, LockConfig};
use glock_harness::telemetry::upstream;

glock_harness::telemetry_reports!("consul", "GLOCK_CONSUL_URL", open);

async fn open(url: &str, proxy: Option<SocketAddr>, namespace: &str) -> ConsulLock {
    let server = proxy.unwrap_or_else(|| upstream(url));
    let client = ConsulClient::builder(format!("http://{server}"));
    let client = match url.split_once("?token=") {
        Some((_, token)) => client.token(token),
        None => client,
    };
    let config = LockConfig::default().with_namespace(namespace);
    let lock = ConsulLock::new(client.build().unwrap()).with_config(config).unwrap();
    // The setting of the servers that tests run against.
    lock.with_session_ttl_min(Duration::from_secs(1)).unwrap()
}
