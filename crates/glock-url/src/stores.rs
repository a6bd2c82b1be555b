//! One file a store: what a URL means to it.

#[cfg(feature = "consul")]
mod consul;
#[cfg(feature = "dynamodb")]
mod dynamodb;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "hazelcast")]
mod hazelcast;
#[cfg(feature = "mongodb")]
mod mongodb;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "zookeeper")]
mod zookeeper;

use crate::{any_lock::AnyLock, error::UrlError, scheme::Scheme, url::LockUrl};

/// The lock of a store that was compiled in.
#[allow(
    clippy::unused_async,
    unreachable_patterns,
    reason = "which stores there are depends on the features"
)]
pub(crate) async fn open(url: &LockUrl) -> Result<AnyLock, UrlError> {
    match url.scheme() {
        #[cfg(feature = "redis")]
        Scheme::Redis | Scheme::RedisTls | Scheme::RedisCluster | Scheme::RedisClusterTls => {
            redis::open(url)
        }
        #[cfg(feature = "postgres")]
        Scheme::Postgres => postgres::open(url).await,
        #[cfg(feature = "mongodb")]
        Scheme::MongoDb => mongodb::open(url).await,
        #[cfg(feature = "dynamodb")]
        Scheme::DynamoDb => dynamodb::open(url).await,
        #[cfg(feature = "etcd")]
        Scheme::Etcd => etcd::open(url),
        #[cfg(feature = "consul")]
        Scheme::Consul => consul::open(url),
        #[cfg(feature = "hazelcast")]
        Scheme::Hazelcast => hazelcast::open(url),
        #[cfg(feature = "sqlite")]
        Scheme::Sqlite => sqlite::open(url),
        #[cfg(feature = "zookeeper")]
        Scheme::ZooKeeper => zookeeper::open(url),
        scheme => {
            let (scheme, feature) = (scheme.as_str(), scheme.feature());
            Err(UrlError::FeatureMissing { scheme, feature })
        }
    }
}
