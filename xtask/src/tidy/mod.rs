//! The rules of the source tree.
pub(crate) const BACKENDS: [&str; 8] = [
    "glock-redis",
    "glock-postgres",
    "glock-dynamodb",
    "glock-mongodb",
    "glock-etcd",
    "glock-consul",
    "glock-zookeeper",
    "glock-hazelcast",
];
pub(crate) fn run() -> crate::Result<()> {
    Ok(())
}
