//! What telemetry reports of this store's lock.

use std::net::SocketAddr;

use glock_dynamodb::{DynamoDbLock, LockConfig};

use crate::support::admin::{conf, lock};

glock_harness::telemetry_reports!("dynamodb", "GLOCK_DYNAMODB_URL", open);

async fn open(url: &str, proxy: Option<SocketAddr>, namespace: &str) -> DynamoDbLock {
    let config = LockConfig::default().with_namespace(namespace);
    let server = url.rsplit('/').next().and_then(|addr| addr.parse().ok());
    let server = server.expect("GLOCK_DYNAMODB_URL is like http://127.0.0.1:8000");
    let lock = lock(conf(proxy.unwrap_or(server)).build(), config);
    lock.create_table().await.unwrap();
    lock
}
