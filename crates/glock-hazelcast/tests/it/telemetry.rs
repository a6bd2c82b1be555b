//! What telemetry reports of this store's lock.

use std::net::SocketAddr;

use glock_hazelcast::{HazelcastClient, HazelcastLock, LockConfig};

glock_harness::telemetry_reports!("hazelcast", "GLOCK_HAZELCAST_URL", open);

async fn open(url: &str, proxy: Option<SocketAddr>, namespace: &str) -> HazelcastLock {
    let member = proxy.map_or_else(|| url.to_owned(), |proxy| proxy.to_string());
    let config = LockConfig::default().with_namespace(namespace);
    HazelcastLock::new(HazelcastClient::new([member]).unwrap()).with_config(config).unwrap()
}
