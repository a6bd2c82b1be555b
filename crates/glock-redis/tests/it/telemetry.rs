//! What telemetry reports of this store's lock.

use std::net::SocketAddr;

use glock_redis::{
    LockConfig, RedisLock,
    redis::{Client, ConnectionAddr, IntoConnectionInfo},
};

glock_harness::telemetry_reports!("redis", "GLOCK_REDIS_URL", open);

async fn open(url: &str, proxy: Option<SocketAddr>, namespace: &str) -> RedisLock {
    let mut info = url.into_connection_info().unwrap();
    if let Some(proxy) = proxy {
        info = info.set_addr(ConnectionAddr::Tcp(proxy.ip().to_string(), proxy.port()));
    }
    let config = LockConfig::default().with_namespace(namespace);
    RedisLock::new(Client::open(info).unwrap()).with_config(config).unwrap()
}
