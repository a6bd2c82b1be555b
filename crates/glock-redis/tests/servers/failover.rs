//! A primary, a replica and sentinels.

use std::time::Duration;

use glock_redis::{
    Lock, LockExt, RedisLock, Retry, Waiting,
    redis::sentinel::{SentinelClient, SentinelServerType},
};
use glock_testing::process::eventually;
use tokio::time::timeout;

use crate::support::{LONG, SOON, admin::Admin, cluster::OwnServer, id};

/// A primary with a replica, and two sentinels.
struct Watched {
    primary: OwnServer,
    replica: OwnServer,
    sentinels: [OwnServer; 2],
}

impl Watched {
    async fn start() -> Self {
        let primary = OwnServer::start(&["--repl-diskless-sync-delay", "0"]).await;
        let port = primary.port.to_string();
        let replica = OwnServer::start(&["--replicaof", "127.0.0.1", &port]).await;
        let sentinels =
            [OwnServer::sentinel(primary.port).await, OwnServer::sentinel(primary.port).await];
        for sentinel in &sentinels {
            let watch = sentinel.admin().await;
            eventually("the sentinel knows the replica and the other one", SOON, async || {
                let replicas: Vec<glock_redis::redis::Value> =
                    watch.ask("SENTINEL REPLICAS main").await;
                let others: Vec<glock_redis::redis::Value> =
                    watch.ask("SENTINEL SENTINELS main").await;
                (replicas.len(), others.len()) == (1, 1)
            })
            .await;
        }
        Self { primary, replica, sentinels }
    }

    fn lock(&self, admin: &Admin) -> RedisLock {
        let sentinels: Vec<_> = self.sentinels.iter().map(OwnServer::url).collect();
        let client = SentinelClient::build(sentinels, "main", None, SentinelServerType::Master);
        RedisLock::sentinel(client.unwrap()).with_config(admin.config()).unwrap()
    }
}

/// Loses the primary while one client holds a lock and another one waits for it.
async fn the_new_primary_is_found(lose: impl FnOnce(&mut OwnServer)) {
    let mut servers = Watched::start().await;
    let old = servers.primary.admin().await;
    let (ours, theirs) = (servers.lock(&old), servers.lock(&old));
    assert_eq!(ours.capabilities().waiting, Waiting::Pushed);
    let lease = theirs.acquire(&id("x"), LONG).await.unwrap();
    let waiter = tokio::spawn({
        let ours = ours.clone();
        async move { ours.acquire_with_retry("x", LONG, Retry::within(LONG)).await }
    });
    eventually("asleep", SOON, async || old.channels().await == 1).await;
    let new = servers.replica.admin().await;
    let key = old.key("x");
    eventually("replicated", SOON, async || new.ask_with::<i64>("EXISTS", &key).await == 1).await;
    lose(&mut servers.primary);

    let renewed = timeout(Duration::from_secs(30), async {
        loop {
            match theirs.renew(&lease, LONG).await {
                Ok(lease) => return lease,
                Err(err) => assert!(err.is_retryable(), "{err:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let lease = renewed.await.expect("the new primary was not found");
    theirs.release(&lease).await.unwrap();
    let next = timeout(SOON, waiter).await.expect("not woken");
    let next = next.unwrap().unwrap();
    assert!(next.fence() > lease.fence());
    ours.release(&next).await.unwrap();
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_new_primary_is_found_after_a_crash() {
    the_new_primary_is_found(OwnServer::stop).await;
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_new_primary_is_found_when_the_old_one_is_silent() {
    the_new_primary_is_found(|primary| primary.freeze()).await;
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_silent_sentinel_costs_no_call() {
    let servers = Watched::start().await;
    let admin = servers.primary.admin().await;
    servers.sentinels[0].freeze();
    for n in 0..3 {
        let lock = servers.lock(&admin);
        let lease = lock.acquire(&id(&format!("x{n}")), LONG).await.unwrap();
        lock.release(&lease).await.unwrap();
    }
}
