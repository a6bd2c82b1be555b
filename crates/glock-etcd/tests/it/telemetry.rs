//! What telemetry reports of this store's lock.

use std::net::SocketAddr;

use glock_etcd::{EtcdLock, LockConfig, connect_options};

glock_harness::telemetry_reports!("etcd", "GLOCK_ETCD_URL", open);

async fn open(url: &str, proxy: Option<SocketAddr>, namespace: &str) -> EtcdLock {
    let given: Vec<_> = url.split(',').map(ToOwned::to_owned).collect();
    let endpoints = proxy.map_or(given, |proxy| vec![proxy.to_string()]);
    let config = LockConfig::default().with_namespace(namespace);
    EtcdLock::from_endpoints(endpoints, connect_options()).with_config(config).unwrap()
}
