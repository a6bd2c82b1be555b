//! What telemetry reports of this store's lock.

use std::{net::SocketAddr, str::FromStr};

use glock_postgres::{LockConfig, PostgresLock, sqlx::postgres::PgConnectOptions};

use crate::support::admin::lazy;

glock_harness::telemetry_reports!("postgres", "GLOCK_POSTGRES_URL", open);

async fn open(url: &str, proxy: Option<SocketAddr>, namespace: &str) -> PostgresLock {
    let mut options = PgConnectOptions::from_str(url).unwrap();
    if let Some(proxy) = proxy {
        options = options.host(&proxy.ip().to_string()).port(proxy.port());
    }
    let config = LockConfig::default().with_namespace(namespace);
    let lock = PostgresLock::new(lazy(options)).with_config(config).unwrap();
    lock.ensure_schema().await.unwrap();
    lock
}
