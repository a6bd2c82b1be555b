//! What telemetry reports of this store's lock.

use std::net::SocketAddr;

use glock_zookeeper::{LockConfig, ZooKeeperLock, zookeeper_client::Client};

glock_harness::telemetry_reports!("zookeeper", "GLOCK_ZOOKEEPER_URL", open);

async fn open(url: &str, proxy: Option<SocketAddr>, namespace: &str) -> ZooKeeperLock {
    let servers = proxy.map_or_else(|| url.to_owned(), |proxy| proxy.to_string());
    let config = LockConfig::default().with_namespace(namespace);
    ZooKeeperLock::new(Client::connector(), servers).with_config(config).unwrap()
}
