//! The stores' names, as [`Lock::backend`](crate::Lock::backend) returns them.

/// Consul.
pub const CONSUL: &str = "consul";
/// Amazon DynamoDB.
pub const DYNAMODB: &str = "dynamodb";
/// etcd.
pub const ETCD: &str = "etcd";
/// Hazelcast.
pub const HAZELCAST: &str = "hazelcast";
/// The in-memory lock of `glock-testing`.
pub const MEMORY: &str = "memory";
/// MongoDB.
pub const MONGODB: &str = "mongodb";
/// PostgreSQL.
pub const POSTGRES: &str = "postgres";
/// Redis and Valkey.
pub const REDIS: &str = "redis";
/// SQLite.
pub const SQLITE: &str = "sqlite";
/// Apache ZooKeeper.
pub const ZOOKEEPER: &str = "zookeeper";
