//! What telemetry reports of this store's lock.

use std::net::SocketAddr;

use glock_mongodb::{
    LockConfig, MongoLock,
    mongodb::{
        Client,
        options::{ClientOptions, ServerAddress},
    },
};

glock_harness::telemetry_reports!("mongodb", "GLOCK_MONGODB_URL", open);

async fn open(url: &str, proxy: Option<SocketAddr>, namespace: &str) -> MongoLock {
    let mut options = ClientOptions::parse(url).await.unwrap();
    if let Some(proxy) = proxy {
        let (host, port) = (proxy.ip().to_string(), Some(proxy.port()));
        options.hosts = vec![ServerAddress::Tcp { host, port }];
        options.direct_connection = Some(true);
    }
    let config = LockConfig::default().with_namespace(namespace);
    let lock = MongoLock::new(Client::with_options(options).unwrap());
    let lock = lock.with_config(config).unwrap();
    lock.ensure_schema().await.unwrap();
    lock
}
