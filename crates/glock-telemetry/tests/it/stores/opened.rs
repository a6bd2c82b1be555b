//! Locks of each store: at the URL that a test is given, or at a proxy in front of it.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    str::FromStr,
    time::Duration,
};

use glock_consul::{ConsulClient, ConsulLock};
use glock_core::LockConfig;
use glock_etcd::{EtcdLock, connect_options};
use glock_postgres::{PostgresLock, sqlx::postgres::PgConnectOptions};
use glock_redis::{
    RedisLock,
    redis::{Client, ConnectionAddr, IntoConnectionInfo},
};
use glock_zookeeper::{ZooKeeperLock, zookeeper_client};

/// The first server that a URL or connect string names.
pub(crate) fn upstream(url: &str) -> SocketAddr {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', ',', '?']).next().unwrap();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    host.to_socket_addrs().expect("a host and a port in the URL").next().unwrap()
}

fn config(namespace: &str) -> LockConfig {
    LockConfig::default().with_namespace(namespace)
}

pub(crate) async fn redis(url: &str, server: Option<SocketAddr>, namespace: &str) -> RedisLock {
    let mut info = url.into_connection_info().unwrap();
    if let Some(server) = server {
        info = info.set_addr(ConnectionAddr::Tcp(server.ip().to_string(), server.port()));
    }
    RedisLock::new(Client::open(info).unwrap()).with_config(config(namespace)).unwrap()
}

pub(crate) async fn postgres(
    url: &str,
    server: Option<SocketAddr>,
    namespace: &str,
) -> PostgresLock {
    let mut options = PgConnectOptions::from_str(url).unwrap();
    if let Some(server) = server {
        options = options.host(&server.ip().to_string()).port(server.port());
    }
    let pool = PostgresLock::pool_options().max_connections(4).connect_lazy_with(options);
    let lock = PostgresLock::new(pool).with_config(config(namespace)).unwrap();
    lock.ensure_schema().await.unwrap();
    lock
}

pub(crate) async fn etcd(url: &str, server: Option<SocketAddr>, namespace: &str) -> EtcdLock {
    let given: Vec<_> = url.split(',').map(ToOwned::to_owned).collect();
    let endpoints = server.map_or(given, |server| vec![server.to_string()]);
    EtcdLock::from_endpoints(endpoints, connect_options()).with_config(config(namespace)).unwrap()
}

pub(crate) async fn consul(url: &str, server: Option<SocketAddr>, namespace: &str) -> ConsulLock {
    let server = server.unwrap_or_else(|| upstream(url));
    let client = ConsulClient::builder(format!("http://{server}"));
    let client = match url.split_once("?token=") {
        Some((_, token)) => client.token(token),
        None => client,
    };
    let lock = ConsulLock::new(client.build().unwrap()).with_config(config(namespace)).unwrap();
    // What the servers of the tests are told.
    lock.with_session_ttl_min(Duration::from_secs(1)).unwrap()
}

pub(crate) async fn zookeeper(
    url: &str,
    server: Option<SocketAddr>,
    namespace: &str,
) -> ZooKeeperLock {
    let at = server.map_or_else(|| url.to_owned(), |server| server.to_string());
    let lock = ZooKeeperLock::new(zookeeper_client::Client::connector(), at);
    lock.with_config(config(namespace)).unwrap()
}
